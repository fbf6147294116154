//! Which collector takes which epoch: leases, the fence that keeps a former holder's inserts out, and the wait for those
//! that began before.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tracing::{info, warn};
use uuid::Uuid;

use super::{INSERT_TIMEOUT, Store, StoreError};
use crate::model::AgentEpoch;

/// Epochs of one question at most: their ids take some 60 KiB.
pub const EPOCHS_MAX: usize = 1_000;

/// What the fence of `queries/fence.sql` says when it refuses.
const FENCE_WORDS: &str = "another collector holds an epoch of this insert";

/// ClickHouse's number of what `throwIf` throws.
const FENCE_CODE: u32 = 395;

/// How often inserts that run are looked at: one takes some tens of milliseconds.
const SETTLE_EVERY: Duration = Duration::from_millis(20);

/// How often it is said what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// This start of this collector, as the store knows it.
#[derive(Debug)]
pub(super) struct Identity {
    /// Random.
    pub(super) instance: Uuid,
    /// The smallest number of its leases: whatever was taken from it has a greater one.
    since: AtomicU64,
}

impl Identity {
    /// A new one, without leases.
    pub(super) fn new() -> Self {
        Self {
            instance: Uuid::new_v4(),
            since: AtomicU64::new(u64::MAX),
        }
    }

    /// Where the fence begins to read.
    pub(super) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// What every insert carries.
    pub(super) fn comment(&self) -> String {
        format!("procscope-collector {}", self.instance)
    }
}

impl StoreError {
    /// Whether the store refused an insert because another collector has taken one of its epochs.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Refused { code: Some(FENCE_CODE), message, .. } if message.contains(FENCE_WORDS))
    }
}

#[derive(Debug, clickhouse::Row, serde::Deserialize)]
struct HolderRow {
    agent: String,
    epoch: u64,
    holder: String,
    last: u64,
}

#[derive(Debug, clickhouse::Row, serde::Deserialize)]
struct RunningRow {
    query_id: String,
    comment: String,
}

impl Store {
    /// Takes these epochs, whoever holds them; `held` says whether somebody took them at the same time.
    ///
    /// # Errors
    /// When the store refused or did not answer; leases may be taken or not.
    pub async fn take(&self, wanted: &[AgentEpoch]) -> Result<(), StoreError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let agents: Vec<String> = wanted.iter().map(|agent| agent.agent_id.to_string()).collect();
        let epochs: Vec<u64> = wanted.iter().map(|agent| agent.epoch).collect();
        self.question(include_str!("../../queries/take_leases.sql"))
            .param("agents", agents)
            .param("epochs", epochs)
            .param("instance", self.identity.instance.to_string())
            .execute()
            .await
            .map_err(|error| StoreError::new("take_leases", error))
    }

    /// Which of these epochs this collector holds.
    ///
    /// # Errors
    /// When the store refused the question or did not answer.
    pub async fn held(&self, asked: &[AgentEpoch]) -> Result<Vec<AgentEpoch>, StoreError> {
        let epochs: Vec<u64> = asked.iter().map(|agent| agent.epoch).collect();
        let rows = self
            .question(include_str!("../../queries/lease_holders.sql"))
            .param("epochs", epochs)
            .fetch_all::<HolderRow>()
            .await
            .map_err(|error| StoreError::new("lease_holders", error))?;
        let instance = self.identity.instance.to_string();
        let ours: HashMap<(u64, String), u64> = rows
            .into_iter()
            .filter(|row| row.holder == instance)
            .map(|row| ((row.epoch, row.agent), row.last))
            .collect();
        let held = asked.iter().filter(|agent| {
            let last = ours.get(&(agent.epoch, agent.agent_id.to_string()));
            last.is_some_and(|last| {
                self.identity.since.fetch_min(*last, Ordering::Relaxed);
                true
            })
        });
        Ok(held.copied().collect())
    }

    /// Waits until the inserts of all other collectors that run now have ended, one way or the other: those that begin
    /// later meet the fence. Each has an end of its own within `INSERT_TIMEOUT`.
    ///
    /// # Errors
    /// When the store refused the question or did not answer, or when an insert runs for too long.
    pub async fn settle(&self) -> Result<(), StoreError> {
        self.wait_for_inserts(false).await
    }

    /// Waits until no insert of this collector runs: after one whose outcome nobody told.
    pub(super) async fn settle_own(&self) -> Result<(), StoreError> {
        self.wait_for_inserts(true).await
    }

    async fn wait_for_inserts(&self, own: bool) -> Result<(), StoreError> {
        let what = "running_inserts";
        let running = async |among: &[String]| {
            self.question(include_str!("../../queries/running_inserts.sql"))
                .param("among", among)
                .param("instance", self.identity.instance.to_string())
                .param("own", own)
                .fetch_all::<RunningRow>()
                .await
                .map_err(|error| StoreError::new(what, error))
        };
        let started = Instant::now();
        let mut said = None;
        let mut left = running(&[]).await?;
        while !left.is_empty() {
            if said.is_none_or(|last: Instant| last.elapsed() >= SAY_EVERY) {
                let of: Vec<&str> = left.iter().map(|row| row.comment.as_str()).collect();
                let of = of.join(", ");
                info!(inserts = left.len(), of, "waiting for inserts that began before");
                said = Some(Instant::now());
            }
            if started.elapsed() > INSERT_TIMEOUT {
                warn!(inserts = left.len(), "inserts that began before do not end");
                return Err(StoreError::new(what, clickhouse::error::Error::TimedOut));
            }
            tokio::time::sleep(SETTLE_EVERY).await;
            let ids: Vec<String> = left.into_iter().map(|row| row.query_id).collect();
            left = running(&ids).await?;
        }
        Ok(())
    }
}
