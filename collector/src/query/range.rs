//! Which range an answer covers: what was asked for, checked, or the last complete intervals.

use super::{Queries, QueryError};
use crate::{
    model::{NS_PER_MS, TimeRange},
    store::answers::{IntervalRow, NewestRow},
};

/// An hour: the range of most questions without one.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// The longest range: a leap year, for which hours are kept.
pub(crate) const RANGE_MS_MAX: i64 = 366 * 24 * HOUR_MS;

/// How far back "the last" is looked for.
const LOOKBACK_MS_MAX: i64 = 168 * HOUR_MS;

/// Intervals that may be asked for.
pub(crate) const INTERVALS_MAX: u32 = 3_600;

/// Intervals of a top without a range.
pub(crate) const INTERVALS: u32 = 10;

/// How far back the newest interval is looked for, one window after the other.
const LOOKBACKS_MS: [i64; 4] = [120_000, HOUR_MS, 24 * HOUR_MS, LOOKBACK_MS_MAX];

/// How far ahead of ours the clock of a host may be and still say what "last" means.
const AHEAD_MS_MAX: i64 = 300_000;

/// A host that missed more intervals than this has stopped, and does not hold the others back.
const MISSED_MAX: i64 = 3;

/// The least silence that means a host has stopped.
const SILENCE_MS_MIN: i64 = 5_000;

/// A range as it was asked for; either side may be absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AskedRange {
    /// Milliseconds since 1970.
    pub start_ms: Option<i64>,
    /// Milliseconds since 1970; absent: the end of the newest complete interval.
    pub end_ms: Option<i64>,
    /// The length where the start is absent; absent: the question's own.
    pub last_ms: Option<i64>,
}

impl AskedRange {
    /// Whether it was asked for up to a moment that is over: what is said of it stays so, but for what comes late.
    pub(super) fn ended(asked: Option<Self>) -> bool {
        asked.is_some_and(|asked| asked.end_ms.is_some())
    }

    /// The range with `default_ms` before its end where the start is absent.
    ///
    /// The end is brought back to `now_ms`: nothing is known of the future.
    pub(super) fn or_last(self, default_ms: i64, now_ms: i64) -> Result<TimeRange, QueryError> {
        let end_ms = self.end_ms.map_or(now_ms, |end_ms| end_ms.min(now_ms));
        let length_ms = self.last_ms.unwrap_or(default_ms);
        let start_ms = self.start_ms.unwrap_or_else(|| end_ms.saturating_sub(length_ms));
        if start_ms >= end_ms {
            return Err(QueryError::invalid(
                "range",
                "starts at or after its end, or in the future",
            ));
        }
        if end_ms.saturating_sub(start_ms) > RANGE_MS_MAX {
            return Err(QueryError::invalid("range", "is longer than 366 days"));
        }
        if start_ms < 0 {
            return Err(before_1970(self.start_ms.is_some()));
        }
        Ok(TimeRange { start_ms, end_ms })
    }
}

impl Queries {
    /// The range that was asked for, `default_ms` long where its start is absent.
    ///
    /// Where its end is absent it ends with the newest complete interval: the seconds that are still on their way
    /// would only seem not to be observed. When all hosts are silent it ends now, so that their silence shows.
    pub(super) async fn range_until_newest(
        &self,
        asked: Option<AskedRange>,
        default_ms: i64,
        hosts: &[String],
        now_ms: i64,
    ) -> Result<TimeRange, QueryError> {
        let asked = asked.unwrap_or_default();
        if asked.end_ms.is_some() {
            return asked.or_last(default_ms, now_ms);
        }
        let newest = self.newest(LOOKBACKS_MS[0], hosts, now_ms).await?;
        let end_ms = slowest(&newest, now_ms)
            .filter(|row| row.newest_ms + silence_ms(row) >= now_ms)
            .map(|row| row.newest_ms)
            .filter(|end_ms| asked.start_ms.is_none_or(|start_ms| start_ms < *end_ms));
        asked.or_last(default_ms, end_ms.unwrap_or(now_ms))
    }

    /// The newest interval of each host that sent something within `lookback_ms`.
    async fn newest(
        &self,
        lookback_ms: i64,
        hosts: &[String],
        now_ms: i64,
    ) -> Result<Vec<NewestRow>, QueryError> {
        let (from_ms, to_ms) = (now_ms - lookback_ms, now_ms + AHEAD_MS_MAX);
        Ok(self.store.newest_per_host(from_ms, to_ms, hosts).await?)
    }

    /// The range that was asked for, or the last complete intervals (0: the default number of them): those of now, or
    /// those up to an end that was asked for without a start.
    pub(super) async fn range_or_intervals(
        &self,
        asked: Option<AskedRange>,
        asked_intervals: u32,
        hosts: &[String],
        now_ms: i64,
    ) -> Result<TimeRange, QueryError> {
        let intervals = super::check_limit("last_intervals", asked_intervals, INTERVALS, INTERVALS_MAX)?;
        match asked {
            Some(AskedRange {
                start_ms: None,
                end_ms: Some(end_ms),
                last_ms: None,
            }) if asked_intervals > 0 => {
                return self.intervals_up_to(end_ms.min(now_ms), intervals, hosts).await;
            }
            Some(_) => return self.range_until_newest(asked, HOUR_MS, hosts, now_ms).await,
            None => {}
        }
        for lookback_ms in LOOKBACKS_MS {
            let newest = self.newest(lookback_ms, hosts, now_ms).await?;
            let Some(slowest) = slowest(&newest, now_ms) else {
                continue;
            };
            let ends = self.ends_of(slowest, intervals).await?;
            if let Some(range) = range_of(&ends, intervals) {
                return Ok(range);
            }
        }
        Ok(seconds_up_to(now_ms, intervals))
    }

    /// The intervals that were complete at an instant. Where all hosts were silent, it is the seconds before it, so
    /// that their silence shows.
    async fn intervals_up_to(
        &self,
        end_ms: i64,
        intervals: u32,
        hosts: &[String],
    ) -> Result<TimeRange, QueryError> {
        if end_ms <= i64::from(intervals) * 1_000 {
            return Err(before_1970(false));
        }
        let from_ms = end_ms - LOOKBACKS_MS[0];
        let newest = self.store.newest_per_host(from_ms, end_ms, hosts).await?;
        let alive = slowest(&newest, end_ms).filter(|row| row.newest_ms + silence_ms(row) >= end_ms);
        let range = match alive {
            Some(slowest) => range_of(&self.ends_of(slowest, intervals).await?, intervals),
            None => None,
        };
        Ok(range.unwrap_or_else(|| seconds_up_to(end_ms, intervals)))
    }

    /// The ends of the last intervals of a host, newest first, and of one before: where it ended, the range starts.
    async fn ends_of(&self, host: &NewestRow, intervals: u32) -> Result<Vec<IntervalRow>, QueryError> {
        let reach_ms = interval_ms(host.newest_interval_ns).saturating_mul(i64::from(intervals) * 2 + 2);
        let from_ms = host.newest_ms.saturating_sub(reach_ms.min(LOOKBACK_MS_MAX));
        let (name, to_ms) = (&host.host, host.newest_ms);
        Ok(self
            .store
            .interval_ends(name, from_ms, to_ms, intervals + 1)
            .await?)
    }

    /// The end of the newest interval that is complete for all hosts that are alive; `None`: there is none.
    ///
    /// # Errors
    /// When the store refused the question or did not answer.
    pub async fn newest_complete_ms(&self, hosts: &[String], now_ms: i64) -> Result<Option<i64>, QueryError> {
        let newest = self.newest(LOOKBACKS_MS[0], hosts, now_ms).await?;
        Ok(slowest(&newest, now_ms).map(|slowest| slowest.newest_ms))
    }
}

/// The side that was asked for is the one that is wrong.
fn before_1970(start_was_asked: bool) -> QueryError {
    if start_was_asked {
        QueryError::invalid("range", "starts before 1970")
    } else {
        QueryError::invalid("range.end", "is so early that the range would start before 1970")
    }
}

/// Of the hosts that are alive the one whose newest interval ended first: up to there all are complete. A clock that
/// runs ahead makes no other host seem silent.
fn slowest(newest: &[NewestRow], now_ms: i64) -> Option<&NewestRow> {
    let front_ms = newest.iter().map(|row| row.newest_ms).max()?.min(now_ms);
    let alive = newest
        .iter()
        .filter(|row| row.newest_ms + silence_ms(row) >= front_ms);
    alive.min_by_key(|row| row.newest_ms)
}

/// The silence that means that a host has stopped.
fn silence_ms(row: &NewestRow) -> i64 {
    (MISSED_MAX * interval_ms(row.newest_interval_ns)).max(SILENCE_MS_MIN)
}

/// As many seconds as intervals, where no interval says more.
fn seconds_up_to(end_ms: i64, intervals: u32) -> TimeRange {
    TimeRange {
        start_ms: end_ms - i64::from(intervals) * 1_000,
        end_ms,
    }
}

/// From the end of the interval before the first to the end of the last; `ends` are newest first. Where the interval
/// before is missing, the range starts where the first interval itself began.
fn range_of(ends: &[IntervalRow], intervals: u32) -> Option<TimeRange> {
    let newest = ends.first()?;
    let wanted = usize::try_from(intervals).unwrap_or(usize::MAX);
    let first = ends.get(wanted - 1).or(ends.last())?;
    let began_ms = first.time_ms - interval_ms(first.interval_ns);
    let start_ms = ends
        .get(wanted)
        .map_or(began_ms, |before| before.time_ms.max(began_ms));
    Some(TimeRange {
        start_ms,
        end_ms: newest.time_ms,
    })
}

/// An interval in milliseconds, rounded up and at most a day.
pub(super) fn interval_ms(interval_ns: u64) -> i64 {
    i64::try_from(interval_ns)
        .unwrap_or(i64::MAX)
        .saturating_add(NS_PER_MS - 1)
        .min(86_400_000 * NS_PER_MS)
        / NS_PER_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_000_000_000_000;
    const SECOND_NS: u64 = 1_000_000_000;

    fn newest(host: &str, newest_ms: i64) -> NewestRow {
        NewestRow {
            host: host.to_owned(),
            newest_ms,
            newest_interval_ns: SECOND_NS,
        }
    }

    fn ends(times_ms: &[i64]) -> Vec<IntervalRow> {
        times_ms
            .iter()
            .map(|time_ms| IntervalRow {
                time_ms: *time_ms,
                interval_ns: SECOND_NS,
            })
            .collect()
    }

    #[test]
    fn a_range_is_brought_back_to_now() {
        let asked = AskedRange {
            start_ms: Some(NOW_MS - 10),
            end_ms: Some(NOW_MS + 10),
            last_ms: None,
        };
        assert_eq!(
            asked.or_last(1, NOW_MS).unwrap(),
            TimeRange {
                start_ms: NOW_MS - 10,
                end_ms: NOW_MS
            }
        );
        let open = AskedRange {
            last_ms: Some(60),
            ..AskedRange::default()
        };
        assert_eq!(
            open.or_last(1, NOW_MS).unwrap(),
            TimeRange {
                start_ms: NOW_MS - 60,
                end_ms: NOW_MS
            }
        );
    }

    #[test]
    fn impossible_ranges_are_refused() {
        for (start_ms, end_ms) in [
            (NOW_MS, NOW_MS),
            (NOW_MS + 1, NOW_MS + 2),
            (5, 4),
            (i64::MIN, i64::MAX),
            (i64::MAX, i64::MIN),
            (-5, 5),
            (NOW_MS - RANGE_MS_MAX - 1, NOW_MS),
        ] {
            let asked = AskedRange {
                start_ms: Some(start_ms),
                end_ms: Some(end_ms),
                last_ms: None,
            };
            assert!(asked.or_last(1, NOW_MS).is_err(), "{start_ms} {end_ms}");
        }
    }

    #[test]
    fn an_end_that_is_too_early_is_named_as_such() {
        let asked = |start_ms| AskedRange {
            start_ms,
            end_ms: Some(1),
            last_ms: None,
        };
        let field = |start_ms| match asked(start_ms).or_last(HOUR_MS, NOW_MS) {
            Err(QueryError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!((field(None), field(Some(-1))), ("range.end", "range"));
    }

    #[test]
    fn the_last_intervals_of_one_host_are_exactly_those() {
        let range = range_of(&ends(&[9_000, 8_000, 7_000, 6_000]), 3).unwrap();
        assert_eq!(
            range,
            TimeRange {
                start_ms: 6_000,
                end_ms: 9_000
            }
        );
    }

    #[test]
    fn a_late_drain_takes_no_row_too_many() {
        // 7,001 - 1,000 = 6,001 would be after the row before ended at 6,002: its row must stay outside.
        let range = range_of(&ends(&[8_000, 7_001, 6_002]), 2).unwrap();
        assert_eq!(range.start_ms, 6_002);
    }

    #[test]
    fn a_gap_before_the_first_interval_stays_outside() {
        assert_eq!(
            range_of(&ends(&[9_000, 8_000, 3_000]), 2).unwrap().start_ms,
            7_000
        );
        assert_eq!(range_of(&ends(&[9_000, 8_000]), 5).unwrap().start_ms, 7_000);
        assert_eq!(range_of(&[], 5), None);
    }

    #[test]
    fn a_host_that_stopped_holds_nobody_back() {
        let rows = [
            newest("a", 100_000),
            newest("b", 99_200),
            newest("stopped", 90_000),
        ];
        assert_eq!(slowest(&rows, NOW_MS).unwrap().host, "b");
        assert_eq!(slowest(&rows[2..], NOW_MS).unwrap().host, "stopped");
        assert!(slowest(&[], NOW_MS).is_none());
    }

    #[test]
    fn a_clock_that_runs_ahead_makes_nobody_seem_silent() {
        let rows = [newest("ahead", NOW_MS + 60_000), newest("b", NOW_MS - 1_000)];
        assert_eq!(slowest(&rows, NOW_MS).unwrap().host, "b");
        assert_eq!(slowest(&rows[..1], NOW_MS).unwrap().host, "ahead");
    }
}
