//! Takes epochs over, many at a time: a fleet that comes from another collector costs a few questions, not some for each.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, info};

use super::Agents;
use crate::{
    fault,
    model::AgentEpoch,
    self_stats::SelfStats,
    store::{Store, StoreError, leases::EPOCHS_MAX},
};

/// Epochs that may wait; streams beyond them wait with their door.
const WAITING_MAX: usize = 10_000;

/// Groups that are taken at once: one that waits for an insert holds up no other.
const GROUPS_MAX: usize = 8;

/// Why an epoch was not taken.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another collector took it, and snapshots of it are still on the way here.
    #[error("another collector has taken this epoch, and what is on the way here is not gone yet: try again")]
    Leaving,
    /// Another collector took it at the same time.
    #[error("another collector has taken this epoch at the same time: try again")]
    Taken,
    /// The store did not let us.
    #[error("the store does not answer now: keep the snapshots and try again")]
    Store,
}

#[derive(Debug)]
struct Wanted {
    agent: AgentEpoch,
    answer: oneshot::Sender<Result<(), Refused>>,
}

/// Takes epochs for streams.
#[derive(Debug)]
pub(super) struct Leases {
    wanted: mpsc::Sender<Wanted>,
}

impl Leases {
    /// Works until it is dropped.
    pub(super) fn new(store: Store, agents: Arc<Agents>, stats: Arc<SelfStats>) -> Self {
        let (wanted, mut queue) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let groups = Arc::new(Semaphore::new(GROUPS_MAX));
            loop {
                let Ok(turn) = Arc::clone(&groups).acquire_owned().await else {
                    return;
                };
                let mut group: Vec<Wanted> = Vec::new();
                if queue.recv_many(&mut group, EPOCHS_MAX).await == 0 {
                    return;
                }
                let (store, agents, stats) = (store.clone(), Arc::clone(&agents), Arc::clone(&stats));
                tokio::spawn(async move {
                    serve(&store, &agents, &stats, group).await;
                    drop(turn);
                });
            }
        });
        Self { wanted }
    }

    /// Returns once this collector holds the epoch and nobody else can add to it any more.
    ///
    /// # Errors
    /// When another collector holds it, or the store did not answer.
    pub(super) async fn take(&self, agent: AgentEpoch) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        let sent = self.wanted.send(Wanted { agent, answer }).await;
        sent.map_err(|_stopped| Refused::Store)?;
        answered.await.unwrap_or(Err(Refused::Store))
    }
}

async fn serve(store: &Store, agents: &Agents, stats: &SelfStats, group: Vec<Wanted>) {
    let asked: Vec<AgentEpoch> = group.iter().map(|wanted| wanted.agent).collect();
    let taken = take(store, agents, stats, &asked).await;
    if let Err(error) = &taken {
        debug!(
            error = error.chain(),
            epochs = asked.len(),
            "could not take epochs"
        );
    }
    for Wanted { agent, answer } in group {
        let outcome = match &taken {
            Err(_) => Err(Refused::Store),
            Ok(held) if held.contains(&agent) => Ok(()),
            Ok(_) if agents.in_flight(agent) => Err(Refused::Leaving),
            Ok(_) => Err(Refused::Taken),
        };
        // A stream that has gone does not hear it.
        drop(answer.send(outcome));
    }
}

/// Gives the epochs that are held and settled. What is on the way here under a lease that was lost must go first: under a
/// new lease the store would take it, beside the same from the collector between.
async fn take(
    store: &Store,
    agents: &Agents,
    stats: &SelfStats,
    asked: &[AgentEpoch],
) -> Result<Vec<AgentEpoch>, StoreError> {
    let mut held = store.held(asked).await?;
    let (leaving, free): (Vec<AgentEpoch>, Vec<AgentEpoch>) = asked
        .iter()
        .copied()
        .filter(|agent| !held.contains(agent))
        .partition(|agent| agents.in_flight(*agent));
    for agent in leaving {
        agents.lose(agent);
    }
    if !free.is_empty() {
        store.take(&free).await?;
        held = store.held(asked).await?;
        stats.leases_taken(free.len());
        info!(epochs = free.len(), "epochs taken");
    }
    if !fault::without("settle") {
        store.settle().await?;
    }
    Ok(held)
}
