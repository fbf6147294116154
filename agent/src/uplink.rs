//! The way to the collector: sends what waits, takes acknowledgements, starts again with back-off. What is measured
//! now has a stream of its own; what earlier lives have left has another.

mod backlog;
mod outage;
mod outbox;
mod poison;
mod stream;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use procscope_startup::wire::{Way, hint_of_tls};
use tonic::{Code, Status, transport::Endpoint};
use tonic_types::StatusExt as _;
use tracing::{info, warn};

pub use self::outbox::Outbox;
use self::{
    outage::Outage,
    poison::Suspicion,
    stream::{Next, Source, Window},
};

/// Snapshots sent and not yet stored, at most.
const WINDOW: Window = Window {
    len: 32,
    bytes: 16 << 20,
};
/// The first wait after a failure; each further one is twice as long, up to `BACKOFF_MAX`.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The longest wait after a failure, so that a collector that comes back is found soon.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The least wait after a refusal that will not pass by itself; the longest is twice as long.
const BACKOFF_REFUSED: Duration = Duration::from_secs(15);
/// However long a collector asks to wait, it is asked again after this.
const BACKOFF_ASKED_MAX: Duration = Duration::from_mins(2);
/// A stream that its collector has ended in order is opened again within this.
const REOPEN_MAX: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A collector refused a snapshot for good.
pub const POISON: &str = "poison";

/// The life that is measured now, as a source.
struct Live<'a> {
    outbox: &'a Outbox,
    /// A new life was begun and nothing of it is stored yet: a collector that opens streams and refuses what comes
    /// must not make a life of each try.
    overtaken: bool,
}

impl Source for Live<'_> {
    fn opened(&mut self) {
        if self.outbox.overtake(self.overtaken) {
            self.overtaken = true;
        }
    }

    fn next(&mut self, sent: u64) -> Next {
        let mut queue = self.outbox.lock();
        let Some(next) = queue.after(sent) else {
            return Next::Nothing;
        };
        if sent != 0 && next.request.seq != sent + 1 {
            return Next::Gap;
        }
        queue.sent(next.request.seq);
        Next::Snapshot(next.request.clone())
    }

    fn stored_through(&mut self, seq: u64) {
        self.outbox.lock().stored_through(seq);
        self.overtaken = false;
    }

    async fn changed(&mut self) {
        self.outbox.changed().await;
    }
}

/// How connections to a collector are made and kept: one that has gone is found within twice `KEEP_ALIVE`.
#[must_use]
pub fn tune(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .tcp_nodelay(true)
}

/// Sends for ever what the outbox and the spool hold; drop it to stop.
pub async fn run(way: Way, outbox: Arc<Outbox>) {
    let way = Arc::new(way);
    tokio::select! {
        () = live(&way, &outbox) => {}
        () = backlog::run(Arc::clone(&way), Arc::clone(&outbox)) => {}
    }
}

async fn live(way: &Way, outbox: &Outbox) {
    let mut backoff = BACKOFF_MIN;
    let mut outage = Outage::default();
    let mut suspicion = Suspicion::default();
    let mut source = Live {
        outbox,
        overtaken: false,
    };
    loop {
        while outbox.waiting() == 0 {
            outbox.changed().await;
        }
        let window = suspicion.narrow(WINDOW);
        let mut last = 0;
        let ended = stream::run(way, window, &mut source, &mut |durable| {
            if last == 0 {
                outbox.set_connected(true);
                info!(
                    collector = %way.uri(),
                    was_away_s = outage.end(Instant::now()).map(|lasted| lasted.as_secs()),
                    "the collector stores what this agent sends"
                );
            }
            last = durable;
        })
        .await;
        outbox.set_connected(false);
        suspicion.passed(last);
        if last > 0 {
            backoff = BACKOFF_MIN;
        }
        let status = ended
            .status
            .err()
            .unwrap_or_else(|| Status::unavailable("the stream has ended"));
        if let Some(seq) = suspicion.failed(status.code(), &ended.on_the_way) {
            warn!(
                seq,
                reason = status.message(),
                "a snapshot is refused for good: given up"
            );
            outbox.set_aside(seq);
            suspicion.passed(seq);
        }
        if ended.in_order {
            info!(
                reason = status.message(),
                "the collector has ended the stream in order; opening another"
            );
            tokio::time::sleep(jitter(REOPEN_MAX)).await;
            continue;
        }
        let refused = is_refusal(status.code()) && !suspicion.is_on();
        let wait = wait(&status, refused, backoff);
        if let Some(lasted) = outage.tried_in_vain(refused, Instant::now()) {
            warn!(
                collector = %way.uri(),
                code = ?status.code(),
                reason = %describe(way, &status),
                lasted_s = lasted.as_secs(),
                snapshots_waiting = outbox.waiting(),
                retry_in_ms = wait.as_millis(),
                "no stream to the collector; snapshots wait"
            );
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::time::sleep(wait).await;
    }
}

/// What a retry alone will not mend.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated | Code::PermissionDenied | Code::AlreadyExists | Code::InvalidArgument
    )
}

fn describe(way: &Way, status: &Status) -> String {
    let hint = match status.code() {
        Code::Unauthenticated => {
            "; compare the --token-file of this agent with the collector's --ingest-token-file and `tokens list`"
        }
        _ => hint_of_tls(&way.uri().to_string(), status),
    };
    format!("{}{hint}", status.message())
}

/// How long to wait after a failure: what the collector asks for and up to twice of it; after a refusal long, and
/// else less and less often. All by chance, so that many agents do not come back at once.
fn wait(status: &Status, refused: bool, backoff: Duration) -> Duration {
    if let Some(asked) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
        let asked = asked.clamp(BACKOFF_MIN, BACKOFF_ASKED_MAX);
        return asked + jitter(asked);
    }
    if refused {
        return BACKOFF_REFUSED + jitter(BACKOFF_REFUSED);
    }
    jitter(backoff)
}

/// Anything up to a wait.
fn jitter(wait: Duration) -> Duration {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    wait / u32::from(u16::MAX) * u32::from(u16::from_le_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests;
