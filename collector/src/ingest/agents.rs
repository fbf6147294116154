//! Which agents are connected, which of their snapshots are on the way, and how far each epoch is durable.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::model::AgentEpoch;

/// Streams at once: a fleet ten times the largest that we promise.
const STREAMS_MAX: usize = 10_000;

/// Why a stream was not let in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Turned {
    /// Another life of this agent is connected.
    #[error(
        "agent {0} is connected already with another epoch: two agents must not share one id; give each its own \
         state folder"
    )]
    Twice(Uuid),
    /// Too many streams.
    #[error("{STREAMS_MAX} agents are connected, which is the most this collector takes")]
    Full,
}

/// All agents.
#[derive(Debug, Default)]
pub struct Agents {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    live: HashMap<Uuid, Live>,
    epochs: HashMap<AgentEpoch, Epoch>,
    sessions_total: u64,
}

#[derive(Debug)]
struct Live {
    session: u64,
    epoch: u64,
    replaced: Arc<Notify>,
}

#[derive(Debug)]
struct Epoch {
    /// The greatest number that went to the writer.
    admitted: u64,
    /// Went to the writer and did not come back.
    in_flight: BTreeSet<u64>,
    /// Stored, but something before them is still in flight.
    ahead: BTreeSet<u64>,
    durable: watch::Sender<u64>,
}

/// One stream of one agent; leaving it makes room for the next.
#[derive(Debug)]
pub struct Session {
    agents: Arc<Agents>,
    agent: AgentEpoch,
    number: u64,
    /// Rings when a newer stream of the same epoch takes over.
    pub replaced: Arc<Notify>,
    /// The number up to which everything is stored.
    pub durable: watch::Receiver<u64>,
}

impl Agents {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way; and if it did, counting on beats refusing every agent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a stream in. A stream of the same epoch takes the place of the old one, which is told.
    ///
    /// # Errors
    /// When another epoch of the agent is connected, or too many agents are.
    pub fn open(self: &Arc<Self>, agent: AgentEpoch) -> Result<Session, Turned> {
        let mut inner = self.lock();
        match inner.live.get(&agent.agent_id) {
            Some(live) if live.epoch != agent.epoch => return Err(Turned::Twice(agent.agent_id)),
            Some(live) => live.replaced.notify_one(),
            None if inner.live.len() >= STREAMS_MAX => return Err(Turned::Full),
            None => {}
        }
        inner.sessions_total += 1;
        let number = inner.sessions_total;
        let replaced = Arc::new(Notify::new());
        let live = Live {
            session: number,
            epoch: agent.epoch,
            replaced: Arc::clone(&replaced),
        };
        inner.live.insert(agent.agent_id, live);
        let epoch = inner.epochs.entry(agent).or_insert_with(|| Epoch {
            admitted: 0,
            in_flight: BTreeSet::new(),
            ahead: BTreeSet::new(),
            durable: watch::Sender::new(0),
        });
        let durable = epoch.durable.subscribe();
        Ok(Session {
            agents: Arc::clone(self),
            agent,
            number,
            replaced,
            durable,
        })
    }

    /// Streams that are open.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.lock().live.len()
    }

    /// Notes that a snapshot is stored in all tables.
    pub fn stored(&self, agent: AgentEpoch, seq: u64) {
        let mut inner = self.lock();
        let Some(epoch) = inner.epochs.get_mut(&agent) else {
            return;
        };
        epoch.in_flight.remove(&seq);
        epoch.ahead.insert(seq);
        let first_missing = epoch.in_flight.first().copied().unwrap_or(u64::MAX);
        let still_ahead = epoch.ahead.split_off(&first_missing);
        let reached = std::mem::replace(&mut epoch.ahead, still_ahead).last().copied();
        if let Some(reached) = reached {
            epoch.durable.send_if_modified(|durable| {
                let further = reached > *durable;
                *durable = reached.max(*durable);
                further
            });
        }
        inner.forget_if_idle(agent);
    }

    /// How far an epoch is durable; `None` when nothing of it is connected or on the way.
    #[must_use]
    pub fn durable(&self, agent: AgentEpoch) -> Option<u64> {
        self.lock()
            .epochs
            .get(&agent)
            .map(|epoch| *epoch.durable.borrow())
    }
}

impl Inner {
    /// An epoch without a stream and without anything on the way is in the store alone; it is read from there when
    /// the agent comes back.
    fn forget_if_idle(&mut self, agent: AgentEpoch) {
        let live = self
            .live
            .get(&agent.agent_id)
            .is_some_and(|live| live.epoch == agent.epoch);
        if !live
            && self
                .epochs
                .get(&agent)
                .is_some_and(|epoch| epoch.in_flight.is_empty())
        {
            self.epochs.remove(&agent);
        }
    }
}

impl Session {
    /// Notes that a snapshot goes to the writer; `false`: it is there already, or stored.
    #[must_use]
    pub fn admit(&self, seq: u64) -> bool {
        let mut inner = self.agents.lock();
        let Some(epoch) = inner.epochs.get_mut(&self.agent) else {
            return false;
        };
        if seq <= epoch.admitted {
            return false;
        }
        epoch.admitted = seq;
        epoch.in_flight.insert(seq);
        true
    }

    /// Notes that the store held a snapshot before it came.
    pub fn already_stored(&self, seq: u64) {
        self.agents.stored(self.agent, seq);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut inner = self.agents.lock();
        if inner
            .live
            .get(&self.agent.agent_id)
            .is_some_and(|live| live.session == self.number)
        {
            inner.live.remove(&self.agent.agent_id);
        }
        inner.forget_if_idle(self.agent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(epoch: u64) -> AgentEpoch {
        AgentEpoch {
            agent_id: Uuid::from_u128(7),
            epoch,
        }
    }

    #[test]
    fn durable_waits_for_what_is_in_flight_before_it() {
        let agents = Arc::new(Agents::default());
        let session = agents.open(agent(1)).unwrap();
        for seq in 1..=4 {
            assert!(session.admit(seq));
        }
        for (stored, durable) in [(2, 0), (4, 0), (1, 2), (3, 4)] {
            agents.stored(agent(1), stored);
            assert_eq!(*session.durable.borrow(), durable, "after {stored}");
        }
    }

    #[test]
    fn what_went_to_the_writer_does_not_go_twice() {
        let agents = Arc::new(Agents::default());
        let first = agents.open(agent(1)).unwrap();
        assert!(first.admit(1) && first.admit(2));
        let second = agents.open(agent(1)).unwrap();
        drop(first);
        assert!(!second.admit(1) && !second.admit(2) && second.admit(3));
    }

    #[test]
    fn another_epoch_is_turned_away_while_the_first_is_connected() {
        let agents = Arc::new(Agents::default());
        let first = agents.open(agent(1)).unwrap();
        assert_eq!(
            agents.open(agent(2)).unwrap_err(),
            Turned::Twice(Uuid::from_u128(7))
        );
        drop(first);
        assert!(agents.open(agent(2)).is_ok());
    }

    #[test]
    fn the_same_epoch_takes_over_and_stays_when_the_old_stream_leaves() {
        let agents = Arc::new(Agents::default());
        let first = agents.open(agent(1)).unwrap();
        let _second = agents.open(agent(1)).unwrap();
        drop(first);
        assert_eq!(agents.connected(), 1);
        assert!(agents.open(agent(2)).is_err());
    }

    #[test]
    fn nothing_is_remembered_of_who_left_and_is_stored() {
        let agents = Arc::new(Agents::default());
        let session = agents.open(agent(1)).unwrap();
        assert!(session.admit(1));
        drop(session);
        assert_eq!(agents.durable(agent(1)), Some(0), "still on the way");
        agents.stored(agent(1), 1);
        assert_eq!(agents.durable(agent(1)), None);
    }
}
