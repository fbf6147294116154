//! The door for agents: a stream of snapshots in, the number up to which they are durable out.

mod agents;
pub mod decode;
mod leases;
mod stream;
mod wait;

use std::{sync::Arc, time::Duration};

use procscope_proto::v1::{
    PushSnapshotsRequest, PushSnapshotsResponse, ingest_service_server::IngestService,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::warn;

use self::{
    leases::Leases,
    stream::{Place, Stream},
};
pub use agents::{Agents, Role, Session, Turned};

use crate::{
    access::{Caller, limits::Limits},
    api::come_again,
    retention::Room,
    self_stats::SelfStats,
    store::Store,
    writer::Incoming,
};

/// The largest message: a snapshot of about 100,000 processes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Snapshots that may wait for the writer.
pub const QUEUE_LEN_MAX: usize = 4_096;

/// Encoded bytes that may wait for the writer. Decoded they take about four times as much.
pub const QUEUE_BYTES_MAX: usize = 48 << 20;

/// Streams at once, those that have not said who they are from included.
const STREAMS_MAX: usize = 12_000;

/// How long those wait who came when everything was full: the store needs about so long to be heard of again.
const FULL_WAIT: Duration = Duration::from_secs(5);

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
    /// Empty once the collector stops: then the writer sees the end of the queue.
    queue: std::sync::Mutex<Option<mpsc::Sender<Incoming>>>,
    room: Arc<Semaphore>,
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
            leases: Leases::new(parts.store, Arc::clone(&parts.agents), Arc::clone(&parts.stats)),
            agents: parts.agents,
            stats: parts.stats,
            queue: std::sync::Mutex::new(Some(parts.queue)),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
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
