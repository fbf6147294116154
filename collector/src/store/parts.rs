//! The parts that the store holds: while those that span a range are the same, so is every answer about it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{Store, queries::all};
use crate::model::TimeRange;

/// What is asked about a range may look so far before it: at the hour that its begin lies in, and for hosts that were
/// seen shortly before.
const BEFORE_MS: i64 = 2 * 3_600_000;

/// A part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clickhouse::Row, serde::Deserialize)]
struct Part {
    number: u64,
    from_ms: i64,
    to_ms: i64,
    of_hosts: bool,
}

/// All parts at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts(Vec<Part>);

impl Parts {
    /// A digest of the parts that a question about a range reads. Whether a host is new is looked up in all that was
    /// before it.
    #[must_use]
    pub fn of(&self, range: TimeRange) -> u64 {
        let from_ms = range.start_ms - BEFORE_MS;
        let read = self
            .0
            .iter()
            .filter(|part| part.from_ms <= range.end_ms && (part.to_ms >= from_ms || part.of_hosts));
        read.fold(0, |digest, part| digest ^ part.number)
    }
}

/// One look at the parts serves all who asked before it began.
#[derive(Debug, Default)]
pub(super) struct RollCall {
    running: tokio::sync::Mutex<()>,
    begun: AtomicU64,
    last: Mutex<Option<(u64, Arc<Parts>)>>,
}

impl RollCall {
    async fn call(&self, look: impl Future<Output = Option<Parts>>) -> Option<Arc<Parts>> {
        let asked = self.begun.load(Ordering::SeqCst);
        let _running = self.running.lock().await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((number, parts)) = last
            && number > asked
        {
            return Some(parts);
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let parts = Arc::new(look.await?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, Arc::clone(&parts)));
        Some(parts)
    }
}

impl Store {
    /// The parts as they are now; `None`: this user is not shown any, or there are none.
    pub async fn parts(&self) -> Option<Arc<Parts>> {
        let look = async {
            let rows = all::<Part>("parts", self.question(include_str!("../../queries/parts.sql")));
            rows.await.ok().filter(|parts| !parts.is_empty()).map(Parts)
        };
        self.roll_call.call(look).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn part(number: u64, from_h: i64, to_h: i64) -> Part {
        Part {
            number,
            from_ms: from_h * HOUR_MS,
            to_ms: to_h * HOUR_MS,
            of_hosts: false,
        }
    }

    #[test]
    fn what_is_written_within_a_range_or_shortly_before_changes_its_digest() {
        let range = TimeRange {
            start_ms: 100 * HOUR_MS,
            end_ms: 101 * HOUR_MS,
        };
        let old = Part {
            of_hosts: true,
            ..part(1, 0, 1)
        };
        let before = Parts(vec![old, part(2, 99, 101)]);
        let with = |more: Part| Parts([&before.0[..], &[more]].concat()).of(range);
        assert_eq!(with(part(3, 102, 103)), before.of(range));
        assert_eq!(with(part(3, 0, 97)), before.of(range));
        for more in [part(3, 101, 103), part(3, 97, 98), part(3, 0, 200)] {
            assert_ne!(with(more), before.of(range), "{more:?}");
        }
        assert_ne!(with(Part { number: 3, ..old }), before.of(range));
    }

    #[tokio::test]
    async fn one_look_serves_all_who_asked_before_it_began_and_nobody_after() {
        let (calls, looks) = (RollCall::default(), AtomicU64::new(0));
        let gate = tokio::sync::Semaphore::new(0);
        let look = || async {
            let number = looks.fetch_add(1, Ordering::SeqCst);
            let _through = gate.acquire().await;
            Some(Parts(vec![part(number, 0, 1)]))
        };
        let number = |parts: Option<Arc<Parts>>| parts.unwrap().0[0].number;
        let opens = async {
            while looks.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            // Two more have asked since the first look began: they share the second.
            gate.add_permits(1);
        };
        let (first, second, third, ()) =
            tokio::join!(calls.call(look()), calls.call(look()), calls.call(look()), opens);
        assert_eq!([first, second, third].map(number), [0, 1, 1]);
        gate.add_permits(1);
        let later = calls.call(look()).await;
        assert_eq!(number(later), looks.load(Ordering::SeqCst) - 1);
        assert!(
            calls.call(async { None }).await.is_none(),
            "a look that failed is no answer"
        );
    }
}
