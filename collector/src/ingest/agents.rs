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
    /// What is on the way here belongs to another collector now.
    #[error("another collector has taken {0}, and what is on the way here is not gone yet: try again")]
    Leaving(AgentEpoch),
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
    /// The streams of each agent: of the epoch that lives, and of one that has ended.
    streams: HashMap<(Uuid, Role), Open>,
    epochs: HashMap<AgentEpoch, Epoch>,
    sessions_total: u64,
}

/// What a stream brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The epoch that lives.
    Live,
    /// What is left of an epoch that has ended.
    Backlog,
}

#[derive(Debug)]
struct Open {
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
    /// Another collector has taken it: what is on the way here is dropped.
    lost: bool,
}

/// One stream of one agent; leaving it makes room for the next.
#[derive(Debug)]
pub struct Session {
    agents: Arc<Agents>,
    agent: AgentEpoch,
    role: Role,
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

    /// Lets a stream in. A stream of the same epoch takes the place of the old one, which is told; so does one
    /// backlog that of another. An epoch that becomes a backlog lives no more.
    ///
    /// # Errors
    /// When another epoch of the agent lives, too many agents are connected, or what another collector has taken is
    /// still on the way here.
    pub fn open(self: &Arc<Self>, agent: AgentEpoch, role: Role) -> Result<Session, Turned> {
        let mut inner = self.lock();
        if inner.epochs.get(&agent).is_some_and(|epoch| epoch.lost) {
            return Err(Turned::Leaving(agent));
        }
        match inner.streams.get(&(agent.agent_id, role)) {
            Some(open) if role == Role::Live && open.epoch != agent.epoch => {
                return Err(Turned::Twice(agent.agent_id));
            }
            Some(open) => open.replaced.notify_one(),
            None if inner.streams.len() >= STREAMS_MAX => return Err(Turned::Full),
            None => {}
        }
        for other in [Role::Live, Role::Backlog] {
            let other = (agent.agent_id, other);
            if let Some(open) = inner.streams.get(&other)
                && open.epoch == agent.epoch
            {
                open.replaced.notify_one();
                inner.streams.remove(&other);
            }
        }
        inner.sessions_total += 1;
        let number = inner.sessions_total;
        let replaced = Arc::new(Notify::new());
        let open = Open {
            session: number,
            epoch: agent.epoch,
            replaced: Arc::clone(&replaced),
        };
        let former = inner.streams.insert((agent.agent_id, role), open);
        let epoch = inner.epochs.entry(agent).or_insert_with(|| Epoch {
            admitted: 0,
            in_flight: BTreeSet::new(),
            ahead: BTreeSet::new(),
            durable: watch::Sender::new(0),
            lost: false,
        });
        let mut durable = epoch.durable.subscribe();
        // Its agent may not have heard how far it is, and nothing may come that says so.
        if *durable.borrow() > 0 {
            durable.mark_changed();
        }
        if let Some(former) = former {
            inner.forget_if_idle(AgentEpoch {
                epoch: former.epoch,
                ..agent
            });
        }
        Ok(Session {
            agents: Arc::clone(self),
            agent,
            role,
            number,
            replaced,
            durable,
        })
    }

    /// Streams that are open.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.lock().streams.len()
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

    /// Notes that another collector has taken an epoch: its stream ends, and nothing more of it is stored from here.
    pub fn lose(&self, agent: AgentEpoch) {
        let mut inner = self.lock();
        if let Some(epoch) = inner.epochs.get_mut(&agent) {
            epoch.lost = true;
        }
        for role in [Role::Live, Role::Backlog] {
            let stream = (agent.agent_id, role);
            if let Some(open) = inner.streams.get(&stream)
                && open.epoch == agent.epoch
            {
                open.replaced.notify_one();
                inner.streams.remove(&stream);
            }
        }
        inner.forget_if_idle(agent);
    }

    /// Whether another collector has taken an epoch of which something is on the way here.
    #[must_use]
    pub fn is_lost(&self, agent: AgentEpoch) -> bool {
        self.lock().epochs.get(&agent).is_some_and(|epoch| epoch.lost)
    }

    /// Notes that a snapshot of an epoch that was lost is on the way no more.
    pub fn dropped(&self, agent: AgentEpoch, seq: u64) {
        let mut inner = self.lock();
        if let Some(epoch) = inner.epochs.get_mut(&agent) {
            epoch.in_flight.remove(&seq);
        }
        inner.forget_if_idle(agent);
    }

    /// Whether snapshots of an epoch went to the writer and did not come back.
    #[must_use]
    pub fn in_flight(&self, agent: AgentEpoch) -> bool {
        let inner = self.lock();
        inner
            .epochs
            .get(&agent)
            .is_some_and(|epoch| !epoch.in_flight.is_empty())
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
        let connected = [Role::Live, Role::Backlog].into_iter().any(|role| {
            let open = self.streams.get(&(agent.agent_id, role));
            open.is_some_and(|open| open.epoch == agent.epoch)
        });
        if !connected
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
    /// Notes that a snapshot goes to the writer; `false`: it is there already, or stored, or this stream was replaced:
    /// who came after it has read what is stored, and nothing may come behind that.
    #[must_use]
    pub fn admit(&self, seq: u64) -> bool {
        let mut inner = self.agents.lock();
        let stream = (self.agent.agent_id, self.role);
        if inner
            .streams
            .get(&stream)
            .is_none_or(|open| open.session != self.number)
        {
            return false;
        }
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
        let stream = (self.agent.agent_id, self.role);
        if inner
            .streams
            .get(&stream)
            .is_some_and(|open| open.session == self.number)
        {
            inner.streams.remove(&stream);
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
        let session = agents.open(agent(1), Role::Live).unwrap();
        for seq in 1..=4 {
            assert!(session.admit(seq));
        }
        for (stored, durable) in [(2, 0), (4, 0), (1, 2), (3, 4)] {
            agents.stored(agent(1), stored);
            assert_eq!(*session.durable.borrow(), durable, "after {stored}");
        }
    }

    #[test]
    fn who_comes_while_the_former_stream_is_open_hears_how_far_it_is() {
        let agents = Arc::new(Agents::default());
        let first = agents.open(agent(1), Role::Live).unwrap();
        assert!(!first.durable.has_changed().unwrap(), "nothing is stored");
        assert!(first.admit(1) && first.admit(2));
        agents.stored(agent(1), 1);
        agents.stored(agent(1), 2);
        let second = agents.open(agent(1), Role::Live).unwrap();
        // What it brings is there already, so nothing else would tell it.
        second.already_stored(2);
        assert!(second.durable.has_changed().unwrap());
        assert_eq!(*second.durable.borrow(), 2);
    }

    #[test]
    fn what_went_to_the_writer_does_not_go_twice() {
        let agents = Arc::new(Agents::default());
        let first = agents.open(agent(1), Role::Live).unwrap();
        assert!(first.admit(1) && first.admit(2));
        let second = agents.open(agent(1), Role::Live).unwrap();
        assert!(!first.admit(3), "a newer stream has read what is stored");
        drop(first);
        assert!(!second.admit(1) && !second.admit(2) && second.admit(3));
    }

    #[test]
    fn an_epoch_that_was_lost_comes_back_once_nothing_of_it_is_on_the_way() {
        let agents = Arc::new(Agents::default());
        let session = agents.open(agent(1), Role::Live).unwrap();
        assert!(session.admit(1) && session.admit(2));
        agents.lose(agent(1));
        assert!(agents.is_lost(agent(1)) && !session.admit(3));
        drop(session);
        for seq in [1, 2] {
            assert_eq!(
                agents.open(agent(1), Role::Live).unwrap_err(),
                Turned::Leaving(agent(1))
            );
            agents.dropped(agent(1), seq);
        }
        let again = agents.open(agent(1), Role::Live).unwrap();
        assert!(again.admit(1), "the new stream brings it again");
    }

    #[test]
    fn another_epoch_is_turned_away_while_the_first_is_connected() {
        let agents = Arc::new(Agents::default());
        let first = agents.open(agent(1), Role::Live).unwrap();
        assert_eq!(
            agents.open(agent(2), Role::Live).unwrap_err(),
            Turned::Twice(Uuid::from_u128(7))
        );
        drop(first);
        assert!(agents.open(agent(2), Role::Live).is_ok());
    }

    #[test]
    fn the_same_epoch_takes_over_and_stays_when_the_old_stream_leaves() {
        let agents = Arc::new(Agents::default());
        let first = agents.open(agent(1), Role::Live).unwrap();
        let _second = agents.open(agent(1), Role::Live).unwrap();
        drop(first);
        assert_eq!(agents.connected(), 1);
        assert!(agents.open(agent(2), Role::Live).is_err());
    }

    #[test]
    fn nothing_is_remembered_of_who_left_and_is_stored() {
        let agents = Arc::new(Agents::default());
        let session = agents.open(agent(1), Role::Live).unwrap();
        assert!(session.admit(1));
        drop(session);
        assert_eq!(agents.durable(agent(1)), Some(0), "still on the way");
        agents.stored(agent(1), 1);
        assert_eq!(agents.durable(agent(1)), None);
    }

    #[test]
    fn what_is_left_of_an_epoch_may_come_beside_the_one_that_lives() {
        let agents = Arc::new(Agents::default());
        let stale = agents.open(agent(1), Role::Live).unwrap();
        assert!(stale.admit(1));
        // The agent knows that epoch 1 has ended, whatever this side still takes for connected.
        let backlog = agents.open(agent(1), Role::Backlog).unwrap();
        let live = agents.open(agent(2), Role::Live).unwrap();
        assert!(live.admit(1));
        assert!(!backlog.admit(1) && backlog.admit(7), "one ledger for an epoch");
        drop(stale);
        assert_eq!(agents.connected(), 2);
        assert_eq!(
            agents.open(agent(3), Role::Live).unwrap_err(),
            Turned::Twice(Uuid::from_u128(7))
        );
        let next = agents.open(agent(3), Role::Backlog).unwrap();
        drop(backlog);
        assert!(next.admit(1));
        assert_eq!(agents.connected(), 2);
    }
}
