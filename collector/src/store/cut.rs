//! How a range is cut into samples, minutes and hours, and which of these are worth reading.

use clickhouse::query::Query;

use super::{Store, StoreError, rollups::Step};
use crate::model::TimeRange;

/// Windows that are not worth reading: beyond them a question reads samples only.
pub const STALE_MAX: usize = 10_000;

/// Snapshots that a minute has to be made of, so that its rows are read and not those of the snapshots: a row that may
/// have been replaced costs three to four times as much.
const MINUTE_SNAPSHOTS_MIN: u64 = 6;

/// What a piece of a range is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Single intervals.
    Samples,
    /// Minutes of processes and hosts.
    Minutes,
    /// Hours of them.
    Hours,
}

/// A range and where it is cut: samples up to `head_ms`, minutes up to `hours_from_ms`, hours up to `hours_to_ms`,
/// minutes up to `tail_ms`, samples up to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// All of it.
    pub range: TimeRange,
    head_ms: i64,
    hours_from_ms: i64,
    hours_to_ms: i64,
    tail_ms: i64,
    windows: Windows,
    /// Of all this what is read from one of them; `None`: all.
    only: Option<Level>,
}

/// What the windows of a range are worth.
#[derive(Debug, Clone, Default, PartialEq, Eq, clickhouse::Row, serde::Deserialize)]
struct Windows {
    stale_minutes: Vec<u64>,
    stale_hours: Vec<u64>,
    stale_from_ms: i64,
    stale_to_ms: i64,
    minutes_digest: u64,
    hours_digest: u64,
    minutes: u64,
    minute_snapshots: u64,
    without_sums: u64,
}

impl Cut {
    /// Samples only.
    #[must_use]
    pub fn samples(range: TimeRange) -> Self {
        Self {
            range,
            head_ms: range.end_ms,
            hours_from_ms: range.end_ms,
            hours_to_ms: range.end_ms,
            tail_ms: range.end_ms,
            windows: Windows::default(),
            only: None,
        }
    }

    /// The coarsest that fits, as far as windows were over by `settled_ms`.
    #[must_use]
    pub fn coarsest(range: TimeRange, settled_ms: i64) -> Self {
        let up = |ms: i64, step: Step| -((-ms).div_euclid(step.ms()) * step.ms());
        let down = |ms: i64, step: Step| ms.div_euclid(step.ms()) * step.ms();
        let head_ms = up(range.start_ms, Step::Minute);
        let tail_ms = down(range.end_ms.min(settled_ms), Step::Minute);
        if head_ms >= tail_ms {
            return Self::samples(range);
        }
        let (from_ms, to_ms) = (up(head_ms, Step::Hour), down(tail_ms, Step::Hour));
        let (hours_from_ms, hours_to_ms) = if from_ms < to_ms {
            (from_ms, to_ms)
        } else {
            (tail_ms, tail_ms)
        };
        Self {
            range,
            head_ms,
            hours_from_ms,
            hours_to_ms,
            tail_ms,
            windows: Windows::default(),
            only: None,
        }
    }

    /// The same, and the first minute and what follows it up to a whole one is read from the samples: no interval is
    /// longer, so that none of a window began before the range.
    #[must_use]
    pub fn coarsest_after_samples(range: TimeRange, settled_ms: i64) -> Self {
        let later = TimeRange {
            start_ms: range.start_ms + Step::Minute.ms(),
            ..range
        };
        let cut = Self::coarsest(later, settled_ms);
        Self { range, ..cut }
    }

    /// Of it what minutes and hours are read of.
    #[must_use]
    pub fn of_windows(&self) -> Self {
        let range = TimeRange {
            start_ms: self.head_ms,
            end_ms: self.tail_ms,
        };
        Self {
            range,
            ..self.clone()
        }
    }

    /// The same minutes and hours within another range, which has no other whole ones.
    #[must_use]
    pub fn within(self, range: TimeRange) -> Self {
        Self { range, ..self }
    }

    /// Bytes that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let stale = self.windows.stale_minutes.len() + self.windows.stale_hours.len();
        size_of::<Self>() + stale * size_of::<u64>()
    }

    /// Whether reading the minutes costs more than reading what they were computed of.
    #[must_use]
    pub fn has_costly_minutes(&self) -> bool {
        let least = self.windows.minutes.saturating_mul(MINUTE_SNAPSHOTS_MIN);
        self.has_minutes() && self.windows.minute_snapshots < least
    }

    /// The same with samples in place of minutes.
    #[must_use]
    pub fn without_minutes(self) -> Self {
        if !self.has_hours() {
            return Self::samples(self.range);
        }
        Self {
            head_ms: self.hours_from_ms,
            tail_ms: self.hours_to_ms,
            windows: Windows::default(),
            ..self
        }
    }

    /// Of it what is read from one of the three.
    #[must_use]
    pub fn only(&self, level: Level) -> Self {
        Self {
            only: Some(level),
            ..self.clone()
        }
    }

    /// All that something is read from.
    pub fn levels(&self) -> impl Iterator<Item = Level> {
        let samples =
            self.range.start_ms < self.head_ms || self.tail_ms < self.range.end_ms || self.has_stale();
        [
            (Level::Samples, samples),
            (Level::Minutes, self.has_minutes()),
            (Level::Hours, self.has_hours()),
        ]
        .into_iter()
        .filter_map(|(level, is_read)| is_read.then_some(level))
    }

    /// Which minutes or hours are read, and a digest that is another once one of them is computed again; `None`: samples
    /// can come at any time.
    #[must_use]
    pub fn lasting(&self, level: Level) -> Option<(String, u64)> {
        let windows = &self.windows;
        let (bounds, digest, stale) = match level {
            Level::Samples => return None,
            Level::Minutes => (
                [self.head_ms, self.hours_from_ms, self.hours_to_ms, self.tail_ms],
                windows.minutes_digest,
                &windows.stale_minutes,
            ),
            Level::Hours => (
                [
                    self.hours_from_ms,
                    self.hours_from_ms,
                    self.hours_to_ms,
                    self.hours_to_ms,
                ],
                windows.hours_digest,
                &windows.stale_hours,
            ),
        };
        Some((format!("{level:?} {bounds:?} without {stale:?}"), digest))
    }

    fn reads(&self, level: Level) -> bool {
        self.only.is_none_or(|only| only == level)
    }

    /// Whether samples may be read.
    pub(super) fn has_samples(&self) -> bool {
        self.reads(Level::Samples)
    }

    /// Whether minutes are read.
    #[must_use]
    pub fn has_minutes(&self) -> bool {
        self.reads(Level::Minutes) && (self.head_ms < self.hours_from_ms || self.hours_to_ms < self.tail_ms)
    }

    /// Whether hours are read.
    #[must_use]
    pub fn has_hours(&self) -> bool {
        self.reads(Level::Hours) && self.hours_from_ms < self.hours_to_ms
    }

    /// Whether anything but samples is read.
    #[must_use]
    pub fn has_windows(&self) -> bool {
        self.has_minutes() || self.has_hours()
    }

    /// Whether the sums of groups are stored for all windows that are read.
    pub(super) fn has_sums(&self) -> bool {
        self.has_windows() && self.windows.without_sums == 0
    }

    /// A statement without its comments, and without what it asks of stale windows, where there are none: a number for
    /// each row is what costs most.
    pub(super) fn text(&self, sql: &str) -> String {
        let lines = sql
            .split_inclusive('\n')
            .filter(|line| !line.trim_start().starts_with("--"));
        lines
            .filter(|line| self.has_stale() || !line.contains("{stale_"))
            .collect()
    }

    fn has_stale(&self) -> bool {
        !(self.windows.stale_minutes.is_empty() && self.windows.stale_hours.is_empty())
    }

    pub(super) fn bind(&self, query: Query) -> Query {
        self.bind_bounds(query)
            .param("start_ms", self.range.start_ms)
            .param("end_ms", self.range.end_ms)
            .param("stale_minutes", &self.windows.stale_minutes)
            .param("stale_hours", &self.windows.stale_hours)
            .param("stale_from_ms", self.windows.stale_from_ms)
            .param("stale_to_ms", self.windows.stale_to_ms)
            // A window lies in one partition.
            .with_setting("do_not_merge_across_partitions_select_final", "1")
            // Whatever is asked of those tables is asked of columns that they are sorted by, the same in each version of
            // a row: so the rest is read of the rows that are left.
            .with_setting("optimize_move_to_prewhere_if_final", "1")
    }

    fn bind_bounds(&self, query: Query) -> Query {
        query
            .param("head_ms", self.head_ms)
            .param("hours_from_ms", self.hours_from_ms)
            .param("hours_to_ms", self.hours_to_ms)
            .param("tail_ms", self.tail_ms)
    }
}

impl Store {
    /// Finds out which windows of a cut are to be read from the samples; `None`: so many that all should be.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn weighed(&self, mut cut: Cut, hosts: &[String]) -> Result<Option<Cut>, StoreError> {
        if cut.has_windows() {
            cut.windows = self.windows(&cut, hosts).await?;
        }
        let stale = cut.windows.stale_minutes.len() + cut.windows.stale_hours.len();
        Ok((stale <= STALE_MAX).then_some(cut))
    }

    /// Whether nothing was computed, and nothing came late, since a cut was weighed: then all that was read in between
    /// belongs together.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn still(&self, cut: &Cut, hosts: &[String]) -> Result<bool, StoreError> {
        Ok(!cut.has_windows() || self.windows(cut, hosts).await? == cut.windows)
    }

    async fn windows(&self, cut: &Cut, hosts: &[String]) -> Result<Windows, StoreError> {
        cut.bind_bounds(self.question(include_str!("../../queries/windows.sql")))
            .param("hosts", hosts)
            .fetch_one::<Windows>()
            .await
            .map_err(|error| StoreError::new("windows", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 3_600_000;

    fn check(start_ms: i64, end_ms: i64, settled_ms: i64, bounds: [i64; 4]) {
        let cut = Cut::coarsest(TimeRange { start_ms, end_ms }, settled_ms);
        let got = [cut.head_ms, cut.hours_from_ms, cut.hours_to_ms, cut.tail_ms];
        assert_eq!(got, bounds, "{start_ms} {end_ms} {settled_ms}");
    }

    #[test]
    fn a_range_is_cut_where_windows_begin_and_end() {
        let late = i64::MAX;
        check(1, HOUR * 3 + 1, late, [MINUTE, HOUR, 3 * HOUR, 3 * HOUR]);
        check(0, HOUR, late, [0, 0, HOUR, HOUR]);
        check(1, HOUR, late, [MINUTE, HOUR, HOUR, HOUR]);
        let two = HOUR - MINUTE;
        check(
            two,
            HOUR + MINUTE,
            late,
            [two, HOUR + MINUTE, HOUR + MINUTE, HOUR + MINUTE],
        );
        // Not one whole minute.
        check(1, 2 * MINUTE - 1, late, [2 * MINUTE - 1; 4]);
        // What is not over is read from the samples.
        check(0, 2 * HOUR, HOUR + 90_000, [0, 0, HOUR, HOUR + MINUTE]);
        check(0, 2 * HOUR, 0, [2 * HOUR; 4]);
        // An interval that began before the range ends in the samples.
        let after =
            |start_ms, end_ms| Cut::coarsest_after_samples(TimeRange { start_ms, end_ms }, late).head_ms;
        assert_eq!(
            [after(0, HOUR), after(MINUTE - 1, HOUR), after(1, MINUTE)],
            [MINUTE, 2 * MINUTE, MINUTE]
        );
        let cut = |end_ms| Cut::coarsest(TimeRange { start_ms: 1, end_ms }, late).without_minutes();
        assert!(!cut(3 * HOUR + 1).has_minutes() && cut(3 * HOUR + 1).has_hours());
        assert!(!cut(HOUR).has_windows());
    }
}
