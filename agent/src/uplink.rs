//! The gRPC stream to the collector: sends what waits, takes acknowledgements, starts again with back-off.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
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
/// The log is told of a collector that stays away at most so often.
const SAID_EVERY: Duration = Duration::from_mins(1);
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
    let mut outage = Outage::default();
    loop {
        while outbox.peek(Queue::is_empty) {
            outbox.changed.notified().await;
        }
        let status = match one_stream(&endpoint, &token, &outbox, &mut connected, &mut outage).await {
            Ok(()) => Status::unavailable("the collector ended the stream"),
            Err(status) => status,
        };
        if connected {
            backoff = BACKOFF_MIN;
        }
        let refused = is_refusal(status.code());
        let wait = if refused { BACKOFF_REFUSED } else { jitter(backoff) };
        if let Some(lasted) = outage.tried_in_vain(refused, Instant::now()) {
            warn!(
                collector = %endpoint.uri(),
                code = ?status.code(),
                reason = %describe(&status),
                lasted_s = lasted.as_secs(),
                snapshots_waiting = outbox.peek(Queue::len),
                retry_in_ms = wait.as_millis(),
                "no stream to the collector; snapshots wait in memory"
            );
        }
        connected = false;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::time::sleep(wait).await;
    }
}

/// A time without a stream, and what of it the log knows. Pure.
#[derive(Debug, Default)]
struct Outage {
    since: Option<Instant>,
    said: Option<Instant>,
    /// The log knows that the collector is there and refuses.
    refusal_said: bool,
}

impl Outage {
    /// Another try has failed; how long it has been when that is worth a line: at once, then once a minute. That
    /// a collector refuses is news of its own, once.
    fn tried_in_vain(&mut self, refused: bool, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let due = self
            .said
            .is_none_or(|said| now.saturating_duration_since(said) >= SAID_EVERY);
        if !due && (!refused || self.refusal_said) {
            return None;
        }
        self.said = Some(now);
        self.refusal_said |= refused;
        Some(now.saturating_duration_since(since))
    }

    /// The collector is back; how long it was away, if it was.
    fn end(&mut self, now: Instant) -> Option<Duration> {
        let since = std::mem::take(self).since?;
        Some(now.saturating_duration_since(since))
    }
}

/// One stream from connect to its end. Sets `connected` at the first acknowledgement.
async fn one_stream(
    endpoint: &Endpoint,
    token: &MetadataValue<Ascii>,
    outbox: &Outbox,
    connected: &mut bool,
    outage: &mut Outage,
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
                    info!(
                        collector = %endpoint.uri(),
                        was_away_s = outage.end(Instant::now()).map(|lasted| lasted.as_secs()),
                        "the collector stores what this agent sends"
                    );
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
    fn a_collector_that_stays_away_is_said_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        let said: Vec<u64> = (0..=130)
            .step_by(5)
            .filter_map(|seconds| outage.tried_in_vain(false, at(seconds)))
            .map(|lasted| lasted.as_secs())
            .collect();
        assert_eq!(said, [0, 60, 120]);
        assert_eq!(outage.end(at(131)), Some(Duration::from_secs(131)));
        assert_eq!(outage.end(at(131)), None);
        assert_eq!(outage.tried_in_vain(false, at(132)), Some(Duration::ZERO));
    }

    #[test]
    fn a_refusal_is_said_at_once_and_not_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        let tries = [
            (false, 0),
            (true, 1),
            (true, 16),
            (false, 20),
            (true, 30),
            (true, 61),
        ];
        let said: Vec<bool> = tries
            .into_iter()
            .map(|(refused, seconds)| outage.tried_in_vain(refused, at(seconds)).is_some())
            .collect();
        assert_eq!(said, [true, true, false, false, false, true]);
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
