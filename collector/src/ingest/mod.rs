//! The door for agents: a stream of snapshots in, the number up to which they are durable out.

mod agents;
pub mod decode;
mod leases;
mod wait;

use std::{sync::Arc, time::Duration};

use procscope_proto::v1::{
    PushSnapshotsRequest, PushSnapshotsResponse, ingest_service_server::IngestService,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use self::leases::Leases;
pub use agents::{Agents, Role, Session, Turned};

use self::wait::{changed, rings, spread};
use crate::{
    access::{
        Caller,
        limits::{Limits, OpenStream},
    },
    api::{self, come_again},
    batch::Pending,
    clock,
    model::AgentEpoch,
    retention::Room,
    self_stats::SelfStats,
    store::{Store, insert::Ledger},
    writer::Incoming,
};

/// The largest message: a snapshot of about 100,000 processes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Snapshots that may wait for the writer.
pub const QUEUE_LEN_MAX: usize = 4_096;

/// Encoded bytes that may wait for the writer. Decoded they take about four times as much.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How long a snapshot may wait for room in the queue before its agent is sent away with it.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// How long the end of a stream waits for its last acknowledgement.
const LAST_ACK_MAX: Duration = Duration::from_secs(4);

/// How long an agent may leave acknowledgements unread.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// How long a stream may stay open without saying who it is from.
const FIRST_MAX: Duration = Duration::from_secs(30);

/// Streams at once, those that have not said who they are from included.
const STREAMS_MAX: usize = 12_000;

/// How long those wait who came when everything was full: the store needs about so long to be heard of again.
const FULL_WAIT: Duration = Duration::from_secs(5);

/// Look-ups of stored snapshots at once: a fleet that comes back all at once asks in turn.
const LOOKUPS_MAX: usize = 8;

/// What the door needs.
#[derive(Debug)]
pub struct Parts {
    /// Which agents are connected.
    pub agents: Arc<Agents>,
    /// Our own figures.
    pub stats: Arc<SelfStats>,
    /// Where stored snapshots are looked up.
    pub store: Store,
    /// The way to the writer.
    pub queue: mpsc::Sender<Incoming>,
    /// What one agent may send.
    pub limits: Limits,
    /// How long a stream may last.
    pub stream_max_age: Duration,
    /// Whether the store takes anything.
    pub ready: watch::Receiver<bool>,
    /// Whether its disk has room.
    pub room_on_disk: watch::Receiver<Room>,
    /// True once the collector stops.
    pub stop: watch::Receiver<bool>,
}

/// Takes streams of agents.
#[derive(Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    agents: Arc<Agents>,
    stats: Arc<SelfStats>,
    store: Store,
    /// Empty once the collector stops: then the writer sees the end of the queue.
    queue: std::sync::Mutex<Option<mpsc::Sender<Incoming>>>,
    room: Arc<Semaphore>,
    lookups: Semaphore,
    leases: Leases,
    places: Arc<Semaphore>,
    limits: Limits,
    stream_max_age: Duration,
    ready: watch::Receiver<bool>,
    room_on_disk: watch::Receiver<Room>,
    stop: watch::Receiver<bool>,
}

impl Ingest {
    /// A door that leads to the writer.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let shared = Shared {
            leases: Leases::new(
                parts.store.clone(),
                Arc::clone(&parts.agents),
                Arc::clone(&parts.stats),
            ),
            agents: parts.agents,
            stats: parts.stats,
            store: parts.store,
            queue: std::sync::Mutex::new(Some(parts.queue)),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            lookups: Semaphore::new(LOOKUPS_MAX),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
            limits: parts.limits,
            stream_max_age: parts.stream_max_age,
            ready: parts.ready,
            room_on_disk: parts.room_on_disk,
            stop: parts.stop,
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

#[tonic::async_trait]
impl IngestService for Ingest {
    type PushSnapshotsStream = ReceiverStream<Result<PushSnapshotsResponse, Status>>;

    async fn push_snapshots(
        &self,
        request: Request<Streaming<PushSnapshotsRequest>>,
    ) -> Result<Response<Self::PushSnapshotsStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::unauthenticated("nobody asked who this is"))?;
        self.shared.check_open()?;
        let place = self.shared.place(&caller)?;
        let queue = self.shared.queue()?;
        let (answers, receiver) = mpsc::channel(4);
        let stream = Stream {
            shared: Arc::clone(&self.shared),
            inbound: request.into_inner(),
            answers,
            queue,
            caller,
            place,
        };
        tokio::spawn(stream.run());
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Shared {
    /// A place for one more stream, in all and of its credential when that is one agent's.
    fn place(&self, caller: &Caller) -> Result<Place, Status> {
        let full = |why: String| {
            self.stats.refused("streams");
            come_again(FULL_WAIT, why)
        };
        let of_all = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_none| full(format!("{STREAMS_MAX} streams are open, which is the most")))?;
        let of_one = match caller.agent_id {
            Some(_) => Some(self.limits.open(&caller.name).map_err(|most| {
                full(format!(
                    "{most} streams of this credential are open, which is the most"
                ))
            })?),
            None => None,
        };
        Ok(Place {
            _of_all: of_all,
            _of_one: of_one,
        })
    }

    fn check_open(&self) -> Result<(), Status> {
        if *self.stop.borrow() {
            return Err(Status::unavailable("the collector is stopping"));
        }
        if !*self.ready.borrow() {
            self.stats.refused("store_unavailable");
            return Err(Status::unavailable(
                "the store takes no inserts now: keep the snapshots and try again",
            ));
        }
        self.check_room()
    }

    /// A disk without room takes nothing more from agents, who have disks of their own.
    fn check_room(&self) -> Result<(), Status> {
        if *self.room_on_disk.borrow() == Room::Enough {
            return Ok(());
        }
        self.stats.refused("disk_full");
        Err(Status::unavailable(
            "the disk of the store is almost full: keep the snapshots and try again",
        ))
    }

    /// A message that is no message is the sender's fault, whatever the transport calls it.
    fn unreadable(&self, status: Status) -> Status {
        // What unpacks to more than a message may have counts as one that is too long.
        let unpacking = status.message().starts_with("Error decompressing");
        let too_long =
            status.code() == Code::OutOfRange || (unpacking && status.code() == Code::ResourceExhausted);
        if !too_long && !unpacking && !status.message().contains("decode") {
            return status;
        }
        self.stats.refused(if too_long { "too_long" } else { "invalid" });
        warn!(reason = status.message(), "message refused");
        if too_long {
            return Status::out_of_range(format!("the message is longer than {MESSAGE_BYTES_MAX} bytes"));
        }
        Status::invalid_argument(format!("not a PushSnapshotsRequest: {}", status.message()))
    }

    fn queue(&self) -> Result<mpsc::Sender<Incoming>, Status> {
        let queue = self
            .queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        queue
            .clone()
            .ok_or_else(|| Status::unavailable("the collector is stopping"))
    }
}

impl Ingest {
    /// Lets go of the queue; streams that are open let go of it by themselves.
    pub fn closer(&self) -> impl FnOnce() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let mut queue = shared
                .queue
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            queue.take();
        }
    }
}

/// One stream of one agent.
struct Stream {
    shared: Arc<Shared>,
    inbound: Streaming<PushSnapshotsRequest>,
    answers: mpsc::Sender<Result<PushSnapshotsResponse, Status>>,
    queue: mpsc::Sender<Incoming>,
    caller: Caller,
    place: Place,
}

/// What a stream takes up until it ends.
#[derive(Debug)]
struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_one: Option<OpenStream>,
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
    async fn run(mut self) {
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
        // Before the ledger is read: whoever had the epoch can add nothing to it from here on.
        shared.leases.take(agent).await.map_err(|refused| {
            shared.stats.refused("lease");
            warn!(%agent, %refused, "epoch not taken");
            Status::unavailable(refused.to_string())
        })?;
        let ledger = match shared.lookups.acquire().await {
            Ok(_turn) => shared.store.ledger(agent, first_seq).await.map_err(|error| {
                shared.stats.refused("store_unavailable");
                warn!(%agent, error = error.chain(), "could not read what is stored of an agent");
                Status::unavailable("the store does not answer now: keep the snapshots and try again")
            })?,
            Err(_closed) => return Err(Status::unavailable("the collector is stopping")),
        };
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
