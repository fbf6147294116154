//! Places where a test has this collector die or stop: `PROCSCOPE_FAULT=die:ack:7` dies at the seventh passing of `ack`.
//! Builds for release have none of it.

use std::{future::Future, time::Duration};

/// A place on the way of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// A batch is frozen, and its first insert has not begun.
    Frozen,
    /// The body of an insert is with the socket, its end is not.
    Body,
    /// An insert is complete, and its answer is not there.
    Commit,
    /// A batch is stored in all tables, and nobody was told.
    Ack,
}

/// How long after the end of its body an insert usually commits.
#[cfg(debug_assertions)]
const COMMITTING: Duration = Duration::from_millis(3);

/// Whether a test wants to see what happens without a guard: `PROCSCOPE_WITHOUT=fence`.
#[cfg(not(debug_assertions))]
pub(crate) fn without(_guard: &str) -> bool {
    false
}

/// Whether a test wants to see what happens without a guard: `PROCSCOPE_WITHOUT=fence`.
#[cfg(debug_assertions)]
pub(crate) fn without(guard: &str) -> bool {
    std::env::var("PROCSCOPE_WITHOUT").is_ok_and(|switched_off| switched_off == guard)
}

/// Passes a place.
#[cfg(not(debug_assertions))]
pub(crate) fn pass(_point: Point) {}

/// Waits for `work`, at a place.
#[cfg(not(debug_assertions))]
pub(crate) async fn while_passing<T>(_point: Point, work: impl Future<Output = T>) -> T {
    let _ = Duration::ZERO;
    work.await
}

/// Passes a place: dies or stops there when it was told so.
#[cfg(debug_assertions)]
pub(crate) fn pass(point: Point) {
    if let Some(signal) = armed::due(point) {
        armed::raise(signal);
    }
}

/// Waits for `work`, and dies or stops shortly after it has begun when it was told so.
#[cfg(debug_assertions)]
pub(crate) async fn while_passing<T>(point: Point, work: impl Future<Output = T>) -> T {
    let Some(signal) = armed::due(point) else {
        return work.await;
    };
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        () = tokio::time::sleep(COMMITTING) => {
            armed::raise(signal);
            work.await
        }
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    struct Armed {
        signal: Signal,
        point: Point,
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("PROCSCOPE_FAULT").ok()?;
        let mut words = text.split(':');
        let signal = match words.next()? {
            "die" => Signal::KILL,
            "stop" => Signal::STOP,
            _ => return None,
        };
        let point = match words.next()? {
            "frozen" => Point::Frozen,
            "body" => Point::Body,
            "commit" => Point::Commit,
            "ack" => Point::Ack,
            _ => return None,
        };
        let left = AtomicU64::new(words.next()?.parse().ok()?);
        Some(Armed { signal, point, left })
    });

    /// The signal, at the passing that was named and at no other.
    pub(super) fn due(point: Point) -> Option<Signal> {
        let armed = ARMED.as_ref().filter(|armed| armed.point == point)?;
        let passed = armed
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        (passed == Ok(1)).then_some(armed.signal)
    }

    pub(super) fn raise(signal: Signal) {
        tracing::warn!(?signal, "PROCSCOPE_FAULT is due");
        if let Err(error) = kill_process(getpid(), signal) {
            tracing::error!(%error, "could not raise it");
        }
    }
}
