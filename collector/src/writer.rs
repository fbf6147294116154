//! Batches into the store: retries what may pass, sets aside what cannot, acknowledges what is stored.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tracing::{error, info, warn};

use crate::{
    batch::{Batch, Batcher, Limits, Pending},
    clock,
    ingest::Agents,
    model::{AgentEpoch, Snapshot},
    self_stats::SelfStats,
    store::{
        Store, StoreError, Table,
        insert::{Frozen, freeze, freeze_marks, freeze_set_aside},
    },
};

/// A snapshot with its share of the memory budget.
pub type Incoming = Pending<OwnedSemaphorePermit>;

/// Larger batches cost the store less a row; at this size the gain levels off.
const BATCH_ROWS_MAX: usize = 100_000;

/// Encoded bytes of a batch: about what 100,000 rows have.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Days that may be open at once: each is an insert of its own.
const BATCH_DAYS_MAX: usize = 8;

/// The first wait after a failure; it doubles up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest wait between two tries: short, because data that cannot be seen waits behind it.
const RETRY_LAST: Duration = Duration::from_secs(3);

/// How often a failure that goes on is said again.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// How often the table `agents` is told how far each is stored. People read it; the collector asks the rows themselves.
const MARKS_EVERY: Duration = Duration::from_secs(30);

/// Takes snapshots from a queue to the store, in order, one insert at a time.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    agents: Arc<Agents>,
    stats: Arc<SelfStats>,
    ready: watch::Sender<bool>,
    marks: HashMap<AgentEpoch, (Snapshot, u64)>,
    marks_due: Instant,
}

impl Writer {
    /// A writer that says through `ready` whether the store takes inserts.
    #[must_use]
    pub fn new(store: Store, agents: Arc<Agents>, stats: Arc<SelfStats>, ready: watch::Sender<bool>) -> Self {
        let marks_due = Instant::now() + MARKS_EVERY;
        Self {
            store,
            agents,
            stats,
            ready,
            marks: HashMap::new(),
            marks_due,
        }
    }

    /// Writes until the queue is closed and empty.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Incoming>, flush_interval: Duration) {
        let mut batcher = Batcher::new(Limits {
            rows_max: BATCH_ROWS_MAX,
            bytes_max: BATCH_BYTES_MAX,
            age_max: flush_interval,
            days_max: BATCH_DAYS_MAX,
        });
        loop {
            let due = batcher.due();
            let wait = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into());
            let (closed, open) = tokio::select! {
                incoming = queue.recv() => match incoming {
                    Some(incoming) => (batcher.add(incoming, Instant::now()), true),
                    None => (batcher.close(), false),
                },
                () = wait, if due.is_some() => (batcher.tick(Instant::now()), true),
            };
            for batch in closed {
                self.write(batch).await;
            }
            if !open {
                self.write_marks().await;
                return;
            }
            if self.marks_due <= Instant::now() {
                self.write_marks().await;
            }
        }
    }

    /// Stores a batch in all tables, whatever it takes, and acknowledges its snapshots.
    async fn write(&mut self, batch: Batch<OwnedSemaphorePermit>) {
        let frozen = tokio::task::spawn_blocking(move || {
            let frozen: Vec<_> = Table::ALL
                .into_iter()
                .map(|table| (table, freeze_batch(table, &batch)))
                .collect();
            (batch, frozen)
        });
        let (mut batch, frozen) = match frozen.await {
            Ok(frozen) => frozen,
            Err(panicked) => {
                // A bug of ours. The snapshots were not acknowledged, so their agents still have them.
                error!(%panicked, "could not encode a batch");
                return;
            }
        };
        for (table, frozen) in frozen {
            if let Some(frozen) = frozen
                && let Err(refused) = self.insert(&frozen, table.name()).await
            {
                warn!(
                    table = table.name(),
                    error = refused.chain(),
                    "the store refused a batch: trying its snapshots one by one"
                );
                return self.write_one_by_one(batch).await;
            }
            batch
                .snapshots
                .iter_mut()
                .for_each(|pending| pending.stored.insert(table));
        }
        batch
            .snapshots
            .into_iter()
            .for_each(|pending| self.acknowledge(pending));
    }

    /// Stores each snapshot by itself, so that one that the store refuses for good stops no other.
    async fn write_one_by_one(&mut self, batch: Batch<OwnedSemaphorePermit>) {
        for mut pending in batch.snapshots {
            let mut refused = None;
            for table in Table::ALL {
                if let Some(frozen) = freeze(table, [(&pending.snapshot, pending.stored)])
                    && let Err(error) = self.insert(&frozen, table.name()).await
                {
                    refused = Some(error);
                    break;
                }
                pending.stored.insert(table);
            }
            match refused {
                None => self.acknowledge(pending),
                Some(refused) => self.set_aside(pending, &refused).await,
            }
        }
    }

    /// Keeps a refused snapshot where a person can see it, and lets its agent go on.
    async fn set_aside(&mut self, pending: Incoming, refused: &StoreError) {
        let snapshot = &pending.snapshot;
        let reason = refused.chain();
        error!(agent = %snapshot.agent, seq = snapshot.seq, host = %snapshot.host, reason, "snapshot set aside");
        if let Some(frozen) = freeze_set_aside(snapshot, &reason) {
            // Its table takes any bytes: when even this is refused, somebody is working on the tables, and waiting
            // is all that loses nothing.
            while let Err(again) = self.insert(&frozen, "set_aside").await {
                warn!(
                    error = again.chain(),
                    "the store refuses what was set aside: see the table set_aside"
                );
                tokio::time::sleep(COMPLAIN_EVERY).await;
            }
        }
        self.stats.set_aside(snapshot.encoded.len());
        self.agents.stored(snapshot.agent, snapshot.seq);
    }

    fn acknowledge(&mut self, pending: Incoming) {
        let Pending { snapshot, guard, .. } = pending;
        let delay_ms = u64::try_from(clock::now_ms() - snapshot.time_ms).unwrap_or(0);
        self.stats
            .stored(snapshot.encoded.len(), Duration::from_millis(delay_ms));
        self.agents.stored(snapshot.agent, snapshot.seq);
        let durable = self.agents.durable(snapshot.agent).unwrap_or(snapshot.seq);
        let bare = Snapshot {
            samples: Vec::new(),
            exits: Vec::new(),
            processes: Vec::new(),
            encoded: bytes::Bytes::new(),
            ..snapshot
        };
        self.marks.insert(bare.agent, (bare, durable));
        drop(guard);
    }

    /// Inserts until the store has it; an error only when it refuses the data for good.
    async fn insert(&self, frozen: &Frozen, table: &'static str) -> Result<(), StoreError> {
        let mut wait = RETRY_FIRST;
        let mut complained: Option<Instant> = None;
        loop {
            let started = Instant::now();
            let failed = match self.store.insert(frozen).await {
                Ok(()) => {
                    self.stats.inserted(table, frozen.rows(), started.elapsed());
                    self.set_ready(true);
                    if complained.is_some() {
                        info!(table, "the store takes inserts again");
                    }
                    return Ok(());
                }
                Err(failed) => failed,
            };
            // What was answered in a way we do not understand may be stored or not: only the same bytes are safe.
            if matches!(failed, StoreError::Refused { .. }) && !failed.is_transient() {
                return Err(failed);
            }
            self.stats.retried();
            self.set_ready(false);
            if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                warn!(
                    table,
                    waiting = self.stats.waiting(),
                    error = failed.chain(),
                    "the store takes no inserts, trying again"
                );
                complained = Some(Instant::now());
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LAST);
        }
    }

    fn set_ready(&self, ready: bool) {
        self.stats.store_ready(ready);
        self.ready
            .send_if_modified(|was| std::mem::replace(was, ready) != ready);
    }

    /// Writes how far epochs are stored. A failure leaves an older figure for people to read, until the next time.
    async fn write_marks(&mut self) {
        self.marks_due = Instant::now() + MARKS_EVERY;
        let marks: Vec<_> = std::mem::take(&mut self.marks).into_values().collect();
        if let Some(frozen) = freeze_marks(&marks, clock::now_ms())
            && let Err(error) = self.store.insert(&frozen).await
        {
            warn!(error = error.chain(), "could not write the marks of agents");
        }
    }
}

fn freeze_batch(table: Table, batch: &Batch<OwnedSemaphorePermit>) -> Option<Frozen> {
    freeze(
        table,
        batch
            .snapshots
            .iter()
            .map(|pending| (&pending.snapshot, pending.stored)),
    )
}
