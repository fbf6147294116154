//! Keeps the tables of minutes and hours as exact as the samples: which windows were touched, and when they are computed.
//!
//! What is stale is found in the store, never remembered: memory only says where to look first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    clock,
    model::MS_PER_DAY,
    self_stats::SelfStats,
    store::{
        Store, StoreError,
        rollups::{Stale, Step},
    },
};

/// Windows of hosts that are remembered: a day of minutes of 69 hosts that come back late. Beyond them everything is
/// looked over.
const TOUCHED_MAX: usize = 100_000;

/// How long after its end a window waits for its last snapshots.
const CLOSED_AFTER_MS: i64 = 5_000;

/// How often touched windows are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often everything is looked over, beside the start: for what a collector left behind that has died for good.
const LOOK_OVER_EVERY: Duration = Duration::from_hours(6);

/// What is read at once while everything is looked over.
const LOOK_OVER_STEP_MS: i64 = 3_600_000;

/// Pause between two such readings, so that questions of people come through.
const LOOK_OVER_PAUSE: Duration = Duration::from_millis(20);

/// Windows of one computation: an hour of 100 hosts and more. Rows lie by hours, so that fewer would read them again and again.
const WINDOWS_MAX: usize = 10_000;

/// Rows that one computation reads, unless a single window has more: each may be a group of its own, of 1 to 2 KiB.
const ROWS_MAX: u64 = 300_000;

/// How far raw rows have to be from their end before anything is computed of them: parts go at times of their own.
const SAFE_MS: i64 = 3_600_000;

/// Windows of hosts that were written to.
#[derive(Debug, Default)]
pub struct Touched {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    windows: BTreeMap<(Step, i64), BTreeSet<Arc<str>>>,
    len: usize,
    forgot: bool,
}

impl Touched {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a host has a sample of this time; `false`: there was no room, and everything is looked over instead.
    pub fn touch(&self, step: Step, host: &Arc<str>, time_ms: i64) -> bool {
        // A window holds its end and not its begin.
        let window = (time_ms - 1).div_euclid(step.ms()) * step.ms();
        let mut inner = self.lock();
        let full = inner.len >= TOUCHED_MAX;
        let known = inner
            .windows
            .get(&(step, window))
            .is_some_and(|hosts| hosts.contains(host));
        if known {
            return true;
        }
        if full {
            inner.forgot = true;
            return false;
        }
        inner
            .windows
            .entry((step, window))
            .or_default()
            .insert(Arc::clone(host));
        inner.len += 1;
        true
    }

    /// Takes windows that were over at `now_ms`: of those within one hour or day, so that one question finds them.
    fn take(&self, now_ms: i64) -> Option<Group> {
        let mut inner = self.lock();
        let closed = |(step, window): (Step, i64)| window + step.ms() + CLOSED_AFTER_MS <= now_ms;
        let (step, first) = inner.windows.keys().copied().find(|key| closed(*key))?;
        let span = match step {
            Step::Minute => LOOK_OVER_STEP_MS,
            Step::Hour => MS_PER_DAY,
        };
        let end = (first.div_euclid(span) + 1) * span;
        let keys: Vec<_> = inner
            .windows
            .range((step, first)..(step, end))
            .map(|(key, _)| *key)
            .filter(|key| closed(*key))
            .collect();
        let mut group = Group {
            step,
            from_ms: first,
            to_ms: first,
            hosts: BTreeSet::new(),
        };
        for key in keys {
            let hosts = inner.windows.remove(&key).unwrap_or_default();
            inner.len -= hosts.len();
            group.to_ms = key.1 + step.ms();
            group.hosts.extend(hosts);
        }
        Some(group)
    }

    /// Whether there was no room since the last time.
    fn forgot(&self) -> bool {
        std::mem::take(&mut self.lock().forgot)
    }
}

/// Windows that one question finds.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    step: Step,
    from_ms: i64,
    to_ms: i64,
    hosts: BTreeSet<Arc<str>>,
}

/// Computes what is stale.
#[derive(Debug)]
pub struct Rollup {
    /// Where.
    pub store: Store,
    /// What was written to.
    pub touched: Arc<Touched>,
    /// How long samples and minutes are kept, milliseconds.
    pub kept_ms: (i64, i64),
    /// Counters.
    pub stats: Arc<SelfStats>,
}

impl Rollup {
    /// Works for good; while the store is not ready it waits.
    pub async fn run(self, mut ready: watch::Receiver<bool>) {
        let mut looked_over: Option<Instant> = None;
        loop {
            if ready.wait_for(|ready| *ready).await.is_err() {
                return;
            }
            let due = looked_over.is_none_or(|last| last.elapsed() >= LOOK_OVER_EVERY);
            let outcome = if self.touched.forgot() || due {
                let outcome = self.look_over(clock::now_ms()).await;
                if outcome.is_ok() {
                    looked_over = Some(Instant::now());
                }
                outcome
            } else {
                self.look(clock::now_ms()).await
            };
            if let Err(error) = outcome {
                warn!(
                    error = error.chain(),
                    "could not compute minutes and hours, trying again"
                );
                self.stats.rollup_failed();
                // What memory knew of is not known to be done.
                looked_over = None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Computes what was touched and is over.
    async fn look(&self, now_ms: i64) -> Result<(), StoreError> {
        while let Some(group) = self.touched.take(now_ms) {
            let hosts: Vec<String> = group.hosts.iter().map(ToString::to_string).collect();
            self.catch_up(group.step, (group.from_ms, group.to_ms), &hosts, now_ms)
                .await?;
        }
        Ok(())
    }

    /// Computes whatever is stale, hours that are not over as well.
    async fn look_over(&self, now_ms: i64) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut computed = 0;
        for (step, span) in [(Step::Minute, LOOK_OVER_STEP_MS), (Step::Hour, MS_PER_DAY)] {
            let mut from_ms = self.first_safe(step, now_ms).div_euclid(span) * span;
            while from_ms < now_ms {
                computed += self
                    .catch_up(step, (from_ms, from_ms + span), &[], now_ms)
                    .await?;
                from_ms += span;
                tokio::time::sleep(LOOK_OVER_PAUSE).await;
            }
        }
        info!(computed, took = ?started.elapsed(), "minutes and hours looked over");
        Ok(())
    }

    /// The first window whose rows are all there still.
    fn first_safe(&self, step: Step, now_ms: i64) -> i64 {
        let kept_ms = match step {
            Step::Minute => self.kept_ms.0,
            Step::Hour => self.kept_ms.1,
        };
        let first = now_ms.saturating_sub(kept_ms).saturating_add(SAFE_MS);
        (first.div_euclid(step.ms()) + 1) * step.ms()
    }

    /// Computes what is stale within a range; gives how many windows that were.
    async fn catch_up(
        &self,
        step: Step,
        range: (i64, i64),
        hosts: &[String],
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let mut from_ms = range.0.max(self.first_safe(step, now_ms));
        let to_ms = match step {
            // What is not over would be computed again and again.
            Step::Minute => {
                let over = (now_ms - CLOSED_AFTER_MS).div_euclid(step.ms()) * step.ms();
                range.1.min(over)
            }
            Step::Hour => range.1,
        };
        let mut computed = 0;
        while from_ms < to_ms {
            let mut stale = self.store.stale(step, from_ms, to_ms, hosts, WINDOWS_MAX).await?;
            let Some(last) = stale.last() else { break };
            // A window that more snapshots come to in this moment is touched again, and looked at then.
            from_ms = if stale.len() < WINDOWS_MAX {
                to_ms
            } else {
                last.window_ms()
            };
            in_order_of_rows(&mut stale);
            let mut rest = stale.as_slice();
            while !rest.is_empty() {
                let (part, behind) = rest.split_at(first_part(step, rest));
                self.store.compute(step, part).await?;
                self.stats.rolled_up(part.len());
                computed += part.len();
                rest = behind;
                if step == Step::Minute {
                    for window in part {
                        let host = Arc::from(window.host.as_str());
                        self.touch_hour(&host, window.window_ms() + 1);
                    }
                }
            }
        }
        Ok(computed)
    }

    fn touch_hour(&self, host: &Arc<str>, time_ms: i64) {
        if !self.touched.touch(Step::Hour, host, time_ms) {
            self.stats.rollup_forgotten();
        }
    }
}

/// Rows lie by hours and hosts: what is computed at once is read once, and not each minute's part out of all hosts' hour.
fn in_order_of_rows(windows: &mut [Stale]) {
    let hour = |window: &Stale| window.window_ms().div_euclid(Step::Hour.ms());
    windows.sort_by(|a, b| (hour(a), &a.host, a.window_s).cmp(&(hour(b), &b.host, b.window_s)));
}

/// How many of these windows are computed at once: they lie in one partition and are not too much.
fn first_part(step: Step, windows: &[Stale]) -> usize {
    let partition = |window: &Stale| {
        let day = window.window_ms().div_euclid(MS_PER_DAY);
        match step {
            Step::Minute => day,
            // A range of hours lies within a day, and so within a month.
            Step::Hour => 0,
        }
    };
    let mut rows = 0_u64;
    let fit = windows.iter().take_while(|window| {
        rows = rows.saturating_add(window.rows);
        rows <= ROWS_MAX && windows.first().map(partition) == Some(partition(window))
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn host(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    #[test]
    fn a_window_is_taken_once_it_is_over() {
        let touched = Touched::default();
        let start = NOW / 3_600_000 * 3_600_000;
        // The end of a minute belongs to it.
        assert!(touched.touch(Step::Minute, &host("a"), start + 60_000));
        assert!(touched.touch(Step::Minute, &host("b"), start + 60_001));
        assert_eq!(touched.take(start + 64_999), None);
        let group = touched.take(start + 65_000).unwrap();
        assert_eq!((group.from_ms, group.to_ms), (start, start + 60_000));
        assert_eq!(group.hosts, BTreeSet::from([host("a")]));
        assert_eq!(touched.take(start + 65_000), None);
    }

    #[test]
    fn windows_of_an_hour_are_taken_together() {
        let touched = Touched::default();
        let start = NOW / 3_600_000 * 3_600_000;
        for (name, minute) in [("a", 58), ("b", 59), ("c", 60)] {
            assert!(touched.touch(Step::Minute, &host(name), start + minute * 60_000 + 1));
        }
        let group = touched.take(start + 7_200_000).unwrap();
        assert_eq!(group.to_ms, start + 3_600_000);
        assert_eq!(group.hosts.len(), 2);
        assert_eq!(touched.take(start + 7_200_000).unwrap().hosts.len(), 1);
    }

    #[test]
    fn what_finds_no_room_is_looked_for_everywhere() {
        let touched = Touched::default();
        let a = host("a");
        let over = i64::try_from(TOUCHED_MAX).unwrap();
        for minute in 0..over {
            assert!(touched.touch(Step::Minute, &a, minute * 60_000 + 1));
        }
        assert!(touched.touch(Step::Minute, &a, 1), "known already");
        assert!(!touched.forgot());
        assert!(!touched.touch(Step::Minute, &a, over * 60_000 + 1));
        assert!(touched.forgot() && !touched.forgot());
    }

    #[test]
    fn the_minutes_of_a_host_within_an_hour_are_computed_together() {
        let stale = |host: &str, window_s| Stale {
            host: host.to_owned(),
            window_s,
            version: 1,
            rows: 1,
        };
        let mut windows = vec![stale("b", 0), stale("a", 60), stale("a", 3_600), stale("a", 0)];
        in_order_of_rows(&mut windows);
        let order: Vec<_> = windows
            .iter()
            .map(|window| (&*window.host, window.window_s))
            .collect();
        assert_eq!(order, [("a", 0), ("a", 60), ("b", 0), ("a", 3_600)]);
    }

    #[test]
    fn a_computation_stays_in_its_day_and_is_bounded() {
        let stale = |window_s, rows| Stale {
            host: "h".to_owned(),
            window_s,
            version: 1,
            rows,
        };
        let day = 86_400 * 20_000;
        let across = [stale(day - 60, 1), stale(day, 1)];
        assert_eq!(first_part(Step::Minute, &across), 1);
        assert_eq!(first_part(Step::Hour, &across), 2);
        let large = [stale(day, ROWS_MAX), stale(day + 60, 1)];
        assert_eq!(first_part(Step::Minute, &large), 1);
        assert_eq!(first_part(Step::Minute, &[stale(day, ROWS_MAX + 1)]), 1);
    }
}
