//! One stream of one agent: each snapshot is checked, and goes to the writer unless it is stored already.

use std::{sync::Arc, time::Duration};

use procscope_proto::v1::{PushSnapshotsRequest, PushSnapshotsResponse};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::{
    FULL_WAIT, QUEUE_BYTES_MAX, Shared,
    agents::{Role, Session, Turned},
    decode,
    wait::{changed, rings, spread},
};
use crate::{
    access::{Caller, limits::OpenStream},
    api::{self, come_again},
    batch::Pending,
    clock,
    model::AgentEpoch,
    store::insert::Ledger,
    writer::Incoming,
};

/// How long a snapshot may wait for room in the queue before its agent is sent away with it.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// How long the end of a stream waits for its last acknowledgement.
const LAST_ACK_MAX: Duration = Duration::from_secs(4);

/// How long an agent may leave acknowledgements unread.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// How long a stream may stay open without saying who it is from.
const FIRST_MAX: Duration = Duration::from_secs(30);

/// One stream of one agent.
pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    pub(super) inbound: Streaming<PushSnapshotsRequest>,
    pub(super) answers: mpsc::Sender<Result<PushSnapshotsResponse, Status>>,
    pub(super) queue: mpsc::Sender<Incoming>,
    pub(super) caller: Caller,
    pub(super) place: Place,
}

/// What a stream takes up until it ends.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) _of_all: OwnedSemaphorePermit,
    pub(super) _of_one: Option<OpenStream>,
}

/// Who a stream is from and where it stands.
struct Known {
    agent: AgentEpoch,
    role: Role,
    session: Session,
    ledger: Ledger,
    next_seq: u64,
    last_admitted: u64,
}

impl Stream {
    pub(super) async fn run(mut self) {
        let mut known = None;
        let ended = self.take(&mut known).await;
        let agents = Arc::clone(&self.shared.agents);
        let stats = Arc::clone(&self.shared.stats);
        let Self {
            queue,
            answers,
            place,
            ..
        } = self;
        // Frees the writer to finish when this was the last stream.
        drop(queue);
        if let Some(known) = &mut known {
            debug!(agent = %known.agent, "stream ended");
            let last = known.last_admitted;
            let acknowledged = async {
                if known
                    .session
                    .durable
                    .wait_for(|durable| *durable >= last)
                    .await
                    .is_ok()
                {
                    let durable_seq = *known.session.durable.borrow();
                    drop(answers.send(Ok(PushSnapshotsResponse { durable_seq })).await);
                }
            };
            drop(tokio::time::timeout(LAST_ACK_MAX, acknowledged).await);
        }
        if let Err(status) = ended {
            // An agent that has gone does not hear it.
            drop(answers.send_timeout(Err(status), LAST_ACK_MAX).await);
        }
        drop((known, place));
        stats.agents_connected(agents.connected());
    }

    /// Takes snapshots and hands acknowledgements back, until one side has enough.
    async fn take(&mut self, known: &mut Option<Known>) -> Result<(), Status> {
        let stop = self.shared.stop.clone();
        let caller = self.caller.clone();
        let mut lapsed = std::pin::pin!(caller.lapsed());
        let mut outlived = std::pin::pin!(caller.outlived());
        let opened = Instant::now();
        let end = opened + spread(self.shared.stream_max_age);
        let mut resume = opened;
        loop {
            let (acknowledged, replaced) = match known {
                Some(known) => (
                    Some(known.session.durable.clone()),
                    Some(Arc::clone(&known.session.replaced)),
                ),
                None => (None, None),
            };
            tokio::select! {
                message = self.inbound.message(), if resume <= Instant::now() => match message {
                    Ok(Some(request)) => {
                        let bytes = request.snapshot.len();
                        self.take_one(known, request).await?;
                        resume = self.hold_back(known.as_ref(), bytes);
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(self.shared.unreadable(status)),
                },
                () = changed(acknowledged) => {
                    let Some(known) = known else { continue };
                    let durable_seq = *known.session.durable.borrow_and_update();
                    let answer = self.answers.send_timeout(Ok(PushSnapshotsResponse { durable_seq }), UNREAD_MAX);
                    answer.await.map_err(|_gone| Status::cancelled("acknowledgements were not read"))?;
                }
                () = tokio::time::sleep_until(resume), if resume > Instant::now() => {}
                () = tokio::time::sleep_until(opened + FIRST_MAX), if known.is_none() => {
                    self.shared.stats.refused("silent");
                    return Err(Status::deadline_exceeded("nothing was sent"));
                }
                () = tokio::time::sleep_until(end), if known.is_some() => {
                    self.shared.stats.stream_aged();
                    return Ok(());
                }
                // In order: an agent that has a new certificate by now comes back with it at once.
                () = &mut outlived => {
                    self.shared.stats.stream_aged();
                    info!(caller = %self.caller.name, "a stream is ended: its certificate is good no more");
                    return Ok(());
                }
                why = &mut lapsed => {
                    self.shared.stats.refused("token");
                    info!(caller = %self.caller.name, why, "a stream is ended");
                    return Err(Status::unauthenticated(why));
                }
                () = rings(replaced) => {
                    let lost = known.as_ref().is_some_and(|known| self.shared.agents.is_lost(known.agent));
                    return Err(Status::aborted(if lost {
                        "another collector has taken this epoch"
                    } else {
                        "a newer stream of the same epoch has taken over"
                    }));
                }
                () = crate::stopped(stop.clone()) => return Err(Status::unavailable("the collector is stopping")),
            }
        }
    }

    /// When the next message is read: now, unless the agent has sent more than its rate.
    fn hold_back(&self, known: Option<&Known>, bytes: usize) -> Instant {
        let now = Instant::now();
        let Some(known) = known else { return now };
        let wait = self
            .shared
            .limits
            .sent(known.agent.agent_id, bytes, now.into_std());
        if !wait.is_zero() {
            self.shared.stats.held_back();
        }
        now + wait
    }

    async fn take_one(
        &mut self,
        known: &mut Option<Known>,
        request: PushSnapshotsRequest,
    ) -> Result<(), Status> {
        let shared = Arc::clone(&self.shared);
        let refuse = |refusal: decode::Refusal| {
            shared.stats.refused("invalid");
            warn!(%refusal, "snapshot refused");
            api::invalid_argument(&refusal.field, &refusal.reason)
        };
        let deny = |why: String| {
            shared.stats.refused("identity");
            warn!(caller = %self.caller.name, why, "a message says that it is from somebody else");
            Status::permission_denied(why)
        };
        let (agent, seq) = decode::identity(&request).map_err(refuse)?;
        self.caller.may_be_agent(agent.agent_id).map_err(deny)?;
        shared.check_room()?;
        let role = if request.backlog {
            Role::Backlog
        } else {
            Role::Live
        };
        if known.is_none() {
            *known = Some(self.introduce(agent, role, seq).await?);
        }
        let Some(known) = known else { return Ok(()) };
        if (known.agent, known.role) != (agent, role) {
            shared.stats.refused("invalid");
            return Err(api::invalid_argument(
                "epoch",
                "agent_id, epoch and backlog must not change within a stream",
            ));
        }
        // What its agent has lost of an epoch that has ended never comes.
        if seq < known.next_seq || (seq > known.next_seq && role == Role::Live) {
            shared.stats.refused("invalid");
            let reason = format!(
                "is {seq} after {}: numbers rise, and in an epoch that lives without gaps",
                known.next_seq - 1
            );
            return Err(api::invalid_argument("seq", &reason));
        }
        // Room first, then memory: what a snapshot takes once it is decoded is known from its bytes.
        let share = u32::try_from(
            decode::weigh(&request.snapshot)
                .map_err(refuse)?
                .min(QUEUE_BYTES_MAX),
        );
        let room = async {
            let share = share.unwrap_or(u32::MAX);
            let guard = Arc::clone(&shared.room).acquire_many_owned(share).await.ok()?;
            Some((guard, self.queue.reserve().await.ok()?))
        };
        let Ok(Some((guard, place))) = tokio::time::timeout(HOLD_MAX, room).await else {
            shared.stats.refused("no_room");
            return Err(come_again(
                FULL_WAIT,
                "the store is behind and the queue is full: keep the snapshots and try again later",
            ));
        };
        let snapshot = decode::snapshot(request, clock::now_ms()).map_err(refuse)?;
        self.caller.may_speak_of(&snapshot.host).map_err(deny)?;
        let stored = known.ledger.stored_in(seq);
        known.next_seq = seq
            .checked_add(1)
            .ok_or_else(|| api::invalid_argument("seq", "has come to its end"))?;
        if stored.is_complete() {
            shared.stats.duplicate();
            known.session.already_stored(seq);
            return Ok(());
        }
        if known.session.admit(seq) {
            known.last_admitted = seq;
            shared.stats.received(snapshot.encoded.len());
            place.send(Pending {
                snapshot,
                stored,
                guard,
            });
        } else {
            shared.stats.duplicate();
        }
        Ok(())
    }

    /// Lets an agent in and reads what the store has of it.
    async fn introduce(&self, agent: AgentEpoch, role: Role, first_seq: u64) -> Result<Known, Status> {
        let shared = &self.shared;
        let session = shared.agents.open(agent, role).map_err(|turned| {
            shared.stats.refused("stream");
            warn!(%agent, %turned, "stream refused");
            match turned {
                Turned::Twice(_) => Status::already_exists(turned.to_string()),
                Turned::Full => come_again(FULL_WAIT, turned.to_string()),
                Turned::Leaving(_) => Status::unavailable(turned.to_string()),
            }
        })?;
        shared.stats.agents_connected(shared.agents.connected());
        let ledger = shared.leases.take(agent, first_seq).await.map_err(|refused| {
            shared.stats.refused("lease");
            warn!(%agent, %refused, "epoch not taken");
            Status::unavailable(refused.to_string())
        })?;
        info!(%agent, ?role, first_seq, "agent connected");
        Ok(Known {
            agent,
            role,
            session,
            ledger,
            next_seq: first_seq,
            last_admitted: 0,
        })
    }
}
