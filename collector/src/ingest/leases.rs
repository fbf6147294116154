//! Takes epochs over and reads what is stored of them, many at a time: a fleet that comes all at once costs a few
//! questions, not some for each.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{info, warn};

use super::Agents;
use crate::{
    fault,
    model::AgentEpoch,
    self_stats::SelfStats,
    store::{
        Store, StoreError,
        insert::{LEDGERS_MAX, Ledger},
    },
};

/// Epochs that may wait; streams beyond them wait with their door.
const WAITING_MAX: usize = 10_000;

/// Groups that are taken at once: one that waits for an insert holds up no other.
const GROUPS_MAX: usize = 8;

/// How long the first of a group waits for others: agents that come all at once come within a second or so.
const GATHER: Duration = Duration::from_millis(100);

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
    /// What is stored before this number is known to its agent.
    from_seq: u64,
    answer: oneshot::Sender<Result<Ledger, Refused>>,
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
                if queue.recv_many(&mut group, 1).await == 0 {
                    return;
                }
                tokio::time::sleep(GATHER).await;
                while group.len() < LEDGERS_MAX
                    && let Ok(wanted) = queue.try_recv()
                {
                    group.push(wanted);
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

    /// Returns once this collector holds the epoch and nobody else can add to it any more; what is stored of it.
    ///
    /// # Errors
    /// When another collector holds it, or the store did not answer.
    pub(super) async fn take(&self, agent: AgentEpoch, from_seq: u64) -> Result<Ledger, Refused> {
        let (answer, answered) = oneshot::channel();
        let wanted = Wanted {
            agent,
            from_seq,
            answer,
        };
        let sent = self.wanted.send(wanted).await;
        sent.map_err(|_stopped| Refused::Store)?;
        answered.await.unwrap_or(Err(Refused::Store))
    }
}

async fn serve(store: &Store, agents: &Agents, stats: &SelfStats, group: Vec<Wanted>) {
    let asked: Vec<AgentEpoch> = group.iter().map(|wanted| wanted.agent).collect();
    let taken = async {
        let held = take(store, agents, stats, &asked).await?;
        let from = group.iter().filter(|wanted| held.contains(&wanted.agent));
        let from: Vec<_> = from.map(|wanted| (wanted.agent, wanted.from_seq)).collect();
        let ledgers = store.ledgers(&from).await?;
        // Two streams of one epoch may ask at once.
        let of = |agent| ledgers.get(&agent).cloned().unwrap_or_default();
        let of_each = held.into_iter().map(|agent| (agent, of(agent)));
        Ok::<HashMap<_, _>, StoreError>(of_each.collect())
    };
    let taken = taken.await;
    if let Err(error) = &taken {
        warn!(
            error = error.chain(),
            epochs = asked.len(),
            "could not take epochs, or read what is stored of them"
        );
    }
    for Wanted { agent, answer, .. } in group {
        let outcome = match &taken {
            Err(_) => Err(Refused::Store),
            Ok(held) => match held.get(&agent) {
                Some(ledger) => Ok(ledger.clone()),
                None if agents.in_flight(agent) => Err(Refused::Leaving),
                None => Err(Refused::Taken),
            },
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
