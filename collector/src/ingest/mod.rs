//! The door for agents: a stream of snapshots in, the number up to which they are durable out.

mod agents;
pub mod decode;
mod leases;

use std::{sync::Arc, time::Duration};

use procscope_proto::v1::{
    PushSnapshotsRequest, PushSnapshotsResponse, ingest_service_server::IngestService,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use self::leases::Leases;
pub use agents::{Agents, Role, Session, Turned};

use crate::{
    api,
    batch::Pending,
    clock,
    config::Secret,
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

/// Look-ups of stored snapshots at once: a fleet that comes back all at once asks in turn.
const LOOKUPS_MAX: usize = 8;

/// Takes streams of agents.
#[derive(Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// SHA-256 of the token, so that comparing takes the same time for every guess; `None`: nobody is let in.
    token_digest: Option<[u8; 32]>,
    agents: Arc<Agents>,
    stats: Arc<SelfStats>,
    store: Store,
    /// Empty once the collector stops: then the writer sees the end of the queue.
    queue: std::sync::Mutex<Option<mpsc::Sender<Incoming>>>,
    room: Arc<Semaphore>,
    lookups: Semaphore,
    leases: Leases,
    ready: watch::Receiver<bool>,
    room_on_disk: watch::Receiver<Room>,
    stop: watch::Receiver<bool>,
}

impl Ingest {
    /// A door that leads to `queue`.
    #[must_use]
    pub fn new(
        token: Option<&Secret>,
        agents: Arc<Agents>,
        stats: Arc<SelfStats>,
        store: Store,
        queue: mpsc::Sender<Incoming>,
        store_state: (watch::Receiver<bool>, watch::Receiver<Room>),
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (ready, room_on_disk) = store_state;
        let shared = Shared {
            token_digest: token.map(|token| Sha256::digest(token.reveal()).into()),
            leases: Leases::new(store.clone(), Arc::clone(&agents), Arc::clone(&stats)),
            agents,
            stats,
            store,
            queue: std::sync::Mutex::new(Some(queue)),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            lookups: Semaphore::new(LOOKUPS_MAX),
            ready,
            room_on_disk,
            stop,
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
        self.shared.authenticate(request.metadata())?;
        self.shared.check_open()?;
        let queue = self.shared.queue()?;
        let (answers, receiver) = mpsc::channel(4);
        let stream = Stream {
            shared: Arc::clone(&self.shared),
            inbound: request.into_inner(),
            answers,
            queue,
        };
        tokio::spawn(stream.run());
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Shared {
    /// Compares digests, all bytes of them, so that time tells nothing about the token.
    fn authenticate(&self, metadata: &tonic::metadata::MetadataMap) -> Result<(), Status> {
        let refuse = |why: &str| {
            self.stats.refused("token");
            Err(Status::unauthenticated(why))
        };
        let Some(expected) = &self.token_digest else {
            return refuse("this collector has no ingest token: start it with --ingest-token-file");
        };
        let given = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let Some(given) = given.and_then(|value| value.strip_prefix("Bearer ")) else {
            return refuse("metadata `authorization: Bearer TOKEN` is missing");
        };
        let given: [u8; 32] = Sha256::digest(given.trim()).into();
        let differs = given
            .iter()
            .zip(expected)
            .fold(0, |differs, (a, b)| differs | (a ^ b));
        if std::hint::black_box(differs) == 0 {
            Ok(())
        } else {
            refuse("the ingest token is not the right one")
        }
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
        let too_long = status.code() == Code::OutOfRange;
        if !too_long && !status.message().contains("decode") {
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
        let Self { queue, answers, .. } = self;
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
        drop(known);
        stats.agents_connected(agents.connected());
    }

    /// Takes snapshots and hands acknowledgements back, until one side has enough.
    async fn take(&mut self, known: &mut Option<Known>) -> Result<(), Status> {
        let stop = self.shared.stop.clone();
        loop {
            let (acknowledged, replaced) = match known {
                Some(known) => (
                    Some(known.session.durable.clone()),
                    Some(Arc::clone(&known.session.replaced)),
                ),
                None => (None, None),
            };
            tokio::select! {
                message = self.inbound.message() => match message {
                    Ok(Some(request)) => self.take_one(known, request).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(self.shared.unreadable(status)),
                },
                () = changed(acknowledged) => {
                    let Some(known) = known else { continue };
                    let durable_seq = *known.session.durable.borrow_and_update();
                    let answer = self.answers.send_timeout(Ok(PushSnapshotsResponse { durable_seq }), UNREAD_MAX);
                    answer.await.map_err(|_gone| Status::cancelled("acknowledgements were not read"))?;
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
        let (agent, seq) = decode::identity(&request).map_err(refuse)?;
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
        let snapshot = decode::snapshot(request, clock::now_ms()).map_err(refuse)?;
        let stored = known.ledger.stored_in(seq);
        known.next_seq = seq
            .checked_add(1)
            .ok_or_else(|| api::invalid_argument("seq", "has come to its end"))?;
        if stored.is_complete() {
            shared.stats.duplicate();
            known.session.already_stored(seq);
            return Ok(());
        }
        let share = u32::try_from(snapshot.encoded.len()).unwrap_or(u32::MAX);
        let room = async {
            let guard = Arc::clone(&shared.room).acquire_many_owned(share).await.ok()?;
            Some((guard, self.queue.reserve().await.ok()?))
        };
        let Ok(Some((guard, place))) = tokio::time::timeout(HOLD_MAX, room).await else {
            shared.stats.refused("no_room");
            return Err(Status::resource_exhausted(
                "the store is behind and the queue is full: keep the snapshots and try again later",
            ));
        };
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
                Turned::Full => Status::resource_exhausted(turned.to_string()),
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

/// Ends when more is durable; never before the agent is known.
async fn changed(durable: Option<watch::Receiver<u64>>) {
    if let Some(mut durable) = durable
        && durable.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Ends when a newer stream takes over; never before the agent is known.
async fn rings(replaced: Option<Arc<tokio::sync::Notify>>) {
    match replaced {
        Some(replaced) => replaced.notified().await,
        None => std::future::pending().await,
    }
}
