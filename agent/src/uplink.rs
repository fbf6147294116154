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

use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};
use tracing::{info, warn};

pub use self::outbox::Outbox;
use self::{
    outage::Outage,
    poison::Suspicion,
    stream::{Next, Source, Way, Window},
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
/// The wait after a refusal that will not pass by itself.
const BACKOFF_REFUSED: Duration = Duration::from_secs(15);
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

/// Sends for ever what the outbox and the spool hold; drop it to stop.
pub async fn run(endpoint: Endpoint, token: MetadataValue<Ascii>, outbox: Arc<Outbox>) {
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .tcp_nodelay(true);
    let way = Way { endpoint, token };
    tokio::select! {
        () = live(&way, &outbox) => {}
        () = backlog::run(way.clone(), Arc::clone(&outbox)) => {}
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
                    collector = %way.endpoint.uri(),
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
        let refused = is_refusal(status.code()) && !suspicion.is_on();
        let wait = if refused { BACKOFF_REFUSED } else { jitter(backoff) };
        if let Some(lasted) = outage.tried_in_vain(refused, Instant::now()) {
            warn!(
                collector = %way.endpoint.uri(),
                code = ?status.code(),
                reason = %describe(&status),
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

fn describe(status: &Status) -> String {
    let hint = match status.code() {
        Code::Unauthenticated => {
            "; compare the --token-file of this agent with the collector's --ingest-token-file"
        }
        _ => "",
    };
    format!("{}{hint}", status.message())
}

/// Between half and all of a wait, so that many agents do not come back at once.
fn jitter(wait: Duration) -> Duration {
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    wait / 2 + wait / 2 * random / 255
}

#[cfg(test)]
mod tests;
