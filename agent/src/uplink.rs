//! The gRPC stream to the collector: sends what waits, takes acknowledgements, starts again with back-off.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use procscope_proto::v1::{
    PushSnapshotsRequest, PushSnapshotsResponse, ingest_service_client::IngestServiceClient,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tracing::{info, warn};

use crate::queue::Queue;

/// Snapshots sent and not yet stored, at most.
const IN_FLIGHT_MAX: u64 = 32;
const IN_FLIGHT_LEN: usize = 32;
/// The first wait after a failure; each further one is twice as long, up to `BACKOFF_MAX`.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The longest wait after a failure, so that a collector that comes back is found soon.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The wait after a refusal that will not pass by itself.
const BACKOFF_REFUSED: Duration = Duration::from_secs(15);
/// Without an acknowledgement for so long while something is sent, the stream is taken for dead.
const ACK_TIMEOUT: Duration = Duration::from_secs(45);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What the drain thread and the uplink share.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Outbox {
    /// Around an empty queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self {
            queue: Mutex::new(queue),
            changed: Notify::new(),
        }
    }

    /// Does something with the queue and wakes the uplink.
    pub fn with<T>(&self, action: impl FnOnce(&mut Queue) -> T) -> T {
        // A panic while the queue was held leaves it whole: each of its methods ends in a good state.
        let result = action(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
        result
    }

    fn peek<T>(&self, action: impl FnOnce(&Queue) -> T) -> T {
        action(&self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends for ever what the outbox holds; drop it to stop.
pub async fn run(endpoint: Endpoint, token: MetadataValue<Ascii>, outbox: Arc<Outbox>) {
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .tcp_nodelay(true);
    let mut backoff = BACKOFF_MIN;
    let mut connected = false;
    loop {
        while outbox.peek(Queue::is_empty) {
            outbox.changed.notified().await;
        }
        let status = match one_stream(&endpoint, &token, &outbox, &mut connected).await {
            Ok(()) => Status::unavailable("the collector ended the stream"),
            Err(status) => status,
        };
        if connected {
            backoff = BACKOFF_MIN;
        }
        let wait = if is_refusal(status.code()) {
            BACKOFF_REFUSED
        } else {
            jitter(backoff)
        };
        let waiting = outbox.peek(Queue::len);
        warn!(
            collector = %endpoint.uri(),
            code = ?status.code(),
            reason = %describe(&status),
            snapshots_waiting = waiting,
            retry_in_ms = wait.as_millis(),
            "no stream to the collector; snapshots wait in memory"
        );
        connected = false;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::time::sleep(wait).await;
    }
}

/// One stream from connect to its end. Sets `connected` at the first acknowledgement.
async fn one_stream(
    endpoint: &Endpoint,
    token: &MetadataValue<Ascii>,
    outbox: &Outbox,
    connected: &mut bool,
) -> Result<(), Status> {
    let channel: Channel = endpoint
        .connect()
        .await
        .map_err(|error| Status::unavailable(chain(&error)))?;
    let (sender, receiver) = mpsc::channel::<PushSnapshotsRequest>(IN_FLIGHT_LEN);
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("authorization", token.clone());
    let mut client = IngestServiceClient::new(channel);
    // The collector answers the call when it has seen the first snapshot.
    let mut sent = send_waiting(outbox, &sender, 0, 0)?;
    let mut acks: Streaming<PushSnapshotsResponse> =
        tokio::time::timeout(ACK_TIMEOUT, client.push_snapshots(request))
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("the collector did not open the stream"))??
            .into_inner();
    let mut durable = 0;
    loop {
        let ack = tokio::select! {
            ack = tokio::time::timeout(ACK_TIMEOUT, acks.message()) => Some(ack),
            () = outbox.changed.notified() => None,
        };
        match ack {
            None => {}
            Some(Ok(Ok(Some(ack)))) => {
                durable = ack.durable_seq;
                outbox.peek_mut(|queue| queue.stored_through(durable));
                if !*connected && durable > 0 {
                    *connected = true;
                    info!(collector = %endpoint.uri(), "the collector stores what this agent sends");
                }
            }
            Some(Ok(Ok(None))) => return Ok(()),
            Some(Ok(Err(status))) => return Err(status),
            Some(Err(_elapsed)) if sent > durable => {
                return Err(Status::deadline_exceeded("nothing was acknowledged"));
            }
            Some(Err(_elapsed)) => {}
        }
        sent = send_waiting(outbox, &sender, sent, durable)?;
    }
}

impl Outbox {
    /// Changes the queue without waking the uplink, which is the caller.
    fn peek_mut(&self, action: impl FnOnce(&mut Queue)) {
        action(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Hands over what waits after `sent`, as far as the window allows; the last sequence number handed over.
fn send_waiting(
    outbox: &Outbox,
    sender: &mpsc::Sender<PushSnapshotsRequest>,
    mut sent: u64,
    durable: u64,
) -> Result<u64, Status> {
    while sent == 0 || sent - durable.min(sent) < IN_FLIGHT_MAX {
        let Some(next) = outbox.peek(|queue| queue.after(sent)) else {
            break;
        };
        if sent != 0 && next.seq != sent + 1 {
            return Err(Status::aborted(
                "snapshots gave way while the stream stood still; starting a new one",
            ));
        }
        let seq = next.seq;
        match sender.try_send(PushSnapshotsRequest::clone(&next)) {
            Ok(()) => sent = seq,
            Err(mpsc::error::TrySendError::Full(_)) => break,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                // The answer side of the stream tells why.
                break;
            }
        }
    }
    Ok(sent)
}

/// What a retry alone will not mend.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated | Code::PermissionDenied | Code::AlreadyExists | Code::InvalidArgument
    )
}

fn describe(status: &Status) -> String {
    let hint = match status.code() {
        Code::Unauthenticated => {
            "; compare the --token-file of this agent with the collector's --ingest-token-file"
        }
        _ => "",
    };
    format!("{}{hint}", status.message())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Between half and all of a wait, so that many agents do not come back at once.
fn jitter(wait: Duration) -> Duration {
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    wait / 2 + wait / 2 * random / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_spread_but_bounded() {
        for _try in 0..100 {
            let wait = jitter(BACKOFF_MAX);
            assert!(wait >= BACKOFF_MAX / 2 && wait <= BACKOFF_MAX);
        }
    }

    #[test]
    fn the_window_bounds_what_is_on_its_way() {
        let outbox = Outbox::new(Queue::new(1000, usize::MAX));
        for _snapshot in 0..100 {
            outbox.with(|queue| queue.push([1; 16], 1, &procscope_proto::v1::Snapshot::default()));
        }
        let (sender, mut receiver) = mpsc::channel(1000);
        let sent = send_waiting(&outbox, &sender, 0, 0).unwrap();
        assert_eq!(sent, IN_FLIGHT_MAX);
        assert_eq!(
            send_waiting(&outbox, &sender, sent, 10).unwrap(),
            IN_FLIGHT_MAX + 10
        );
        let mut seq = 0;
        while let Ok(request) = receiver.try_recv() {
            seq += 1;
            assert_eq!(request.seq, seq);
        }
    }

    #[test]
    fn a_gap_in_the_middle_of_a_stream_ends_it() {
        let outbox = Outbox::new(Queue::new(2, usize::MAX));
        outbox.with(|queue| queue.push([1; 16], 1, &procscope_proto::v1::Snapshot::default()));
        let (sender, _receiver) = mpsc::channel(1000);
        let sent = send_waiting(&outbox, &sender, 0, 0).unwrap();
        for _snapshot in 0..5 {
            outbox.with(|queue| queue.push([1; 16], 1, &procscope_proto::v1::Snapshot::default()));
        }
        assert!(send_waiting(&outbox, &sender, sent, 0).is_err());
    }
}
