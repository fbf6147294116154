//! Places where a test has this collector die or stop: `PROCSCOPE_FAULT=die:ack:7` dies at the seventh passing of `ack`.
//! `PROCSCOPE_WITHOUT=fence` shows what happens without that guard. Builds for release have none of it.

#[cfg(debug_assertions)]
pub(crate) use armed::{pass, while_passing, without};
#[cfg(not(debug_assertions))]
pub(crate) use disarmed::{pass, while_passing, without};

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

#[cfg(not(debug_assertions))]
mod disarmed {
    use std::future::Future;

    use super::Point;

    /// Every guard is on.
    pub(crate) fn without(_guard: &str) -> bool {
        false
    }

    /// Nothing happens here.
    pub(crate) fn pass(_point: Point) {}

    /// Waits for `work`.
    pub(crate) async fn while_passing<T>(_point: Point, work: impl Future<Output = T>) -> T {
        work.await
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        future::Future,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    /// How long after the end of its body an insert usually commits.
    const COMMITTING: Duration = Duration::from_millis(3);

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

    /// Whether this guard was switched off.
    pub(crate) fn without(guard: &str) -> bool {
        std::env::var("PROCSCOPE_WITHOUT").is_ok_and(|switched_off| switched_off == guard)
    }

    /// Passes a place: dies or stops there when it was told so.
    pub(crate) fn pass(point: Point) {
        if let Some(signal) = due(point) {
            raise(signal);
        }
    }

    /// Waits for `work`, and dies or stops shortly after it has begun when it was told so.
    pub(crate) async fn while_passing<T>(point: Point, work: impl Future<Output = T>) -> T {
        let Some(signal) = due(point) else {
            return work.await;
        };
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => done,
            () = tokio::time::sleep(COMMITTING) => {
                raise(signal);
                work.await
            }
        }
    }

    /// The signal, at the passing that was named and at no other.
    fn due(point: Point) -> Option<Signal> {
        let armed = ARMED.as_ref().filter(|armed| armed.point == point)?;
        let passed = armed
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        (passed == Ok(1)).then_some(armed.signal)
    }

    fn raise(signal: Signal) {
        tracing::warn!(?signal, "PROCSCOPE_FAULT is due");
        if let Err(error) = kill_process(getpid(), signal) {
            tracing::error!(%error, "could not raise it");
        }
    }
}
