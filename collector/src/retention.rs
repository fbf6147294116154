//! How long rows are kept, and when the disk of the store is too full to take more.

use procscope_startup::{Failure, Result};
use serde::Deserialize;
use tracing::warn;

use crate::model::MS_PER_DAY;

/// Days an agent's spool may wait for the collector: rows that come back after that must find their neighbours.
const SPOOL_DAYS: u32 = 2;

/// The most days that anything is kept: longer than any table has been read.
const DAYS_MAX: u32 = 3_650;

/// Least room that is left: an insert of ours takes some MiB, and a merge as much as what it merges.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// The table `[retention]` of the configuration.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionKeys {
    samples_days: Option<u32>,
    minutes_days: Option<u32>,
    hours_days: Option<u32>,
    free_bytes_min: Option<u64>,
}

/// How long rows are kept. Checked: each table outlives the one that it is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Samples of processes and hosts, and exits, in days.
    pub samples_days: u32,
    /// Minutes, in days.
    pub minutes_days: u32,
    /// Hours, in days.
    pub hours_days: u32,
    /// Bytes that have to be free on the disks of the store before anything is taken.
    pub free_bytes_min: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            samples_days: 7,
            minutes_days: 30,
            hours_days: 365,
            free_bytes_min: FREE_BYTES_MIN,
        }
    }
}

impl RetentionKeys {
    /// Puts the defaults in and refuses what makes no sense.
    ///
    /// # Errors
    /// Exit code 2, naming the key and what is allowed.
    pub fn check(self) -> Result<Retention> {
        let default = Retention::default();
        let kept = Retention {
            samples_days: self.samples_days.unwrap_or(default.samples_days),
            minutes_days: self.minutes_days.unwrap_or(default.minutes_days),
            hours_days: self.hours_days.unwrap_or(default.hours_days),
            free_bytes_min: self.free_bytes_min.unwrap_or(default.free_bytes_min),
        };
        for (name, days, least) in [
            ("samples_days", kept.samples_days, 1),
            ("minutes_days", kept.minutes_days, kept.samples_days),
            ("hours_days", kept.hours_days, kept.minutes_days),
        ] {
            if !(least..=DAYS_MAX).contains(&days) {
                return Err(Failure::usage(format_args!(
                    "retention.{name} is {days} but has to lie between {least} and {DAYS_MAX}: minutes outlive samples, \
                     and hours outlive minutes"
                )));
            }
        }
        if kept.samples_days <= SPOOL_DAYS {
            warn!(
                samples_days = kept.samples_days,
                "agents keep snapshots for 48h: what comes back after an outage may be dropped before its minutes are computed"
            );
        }
        Ok(kept)
    }
}

impl Retention {
    /// Milliseconds for which samples are kept.
    #[must_use]
    pub fn samples_ms(self) -> i64 {
        i64::from(self.samples_days) * MS_PER_DAY
    }

    /// Milliseconds for which minutes are kept.
    #[must_use]
    pub fn minutes_ms(self) -> i64 {
        i64::from(self.minutes_days) * MS_PER_DAY
    }

    /// Milliseconds for which hours are kept.
    #[must_use]
    pub fn hours_ms(self) -> i64 {
        i64::from(self.hours_days) * MS_PER_DAY
    }
}

/// Whether the disk of the store has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Snapshots are taken.
    Enough,
    /// Agents keep them.
    Little,
}

impl Room {
    /// What is so at `free_bytes`. An eighth more than the floor has to be free before anything is taken again, so
    /// that a disk at its limit does not make a storm of reconnects.
    #[must_use]
    pub fn next(self, free_bytes: u64, floor_bytes: u64) -> Self {
        let needed = match self {
            Self::Enough => floor_bytes,
            Self::Little => floor_bytes.saturating_add(floor_bytes / 8),
        };
        if free_bytes < needed {
            Self::Little
        } else {
            Self::Enough
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_again_once_there_is_more_than_the_floor() {
        for (was, free, now) in [
            (Room::Enough, 800, Room::Enough),
            (Room::Enough, 799, Room::Little),
            (Room::Little, 899, Room::Little),
            (Room::Little, 900, Room::Enough),
        ] {
            assert_eq!(was.next(free, 800), now, "{was:?} {free}");
        }
        assert_eq!(Room::Enough.next(0, 0), Room::Enough);
    }

    #[test]
    fn coarser_tables_outlive_finer_ones() {
        let keys = |samples, minutes, hours| RetentionKeys {
            samples_days: Some(samples),
            minutes_days: Some(minutes),
            hours_days: Some(hours),
            free_bytes_min: None,
        };
        assert!(keys(7, 7, 7).check().is_ok());
        assert!(keys(1, 30, 365).check().is_ok());
        for (bad, name) in [
            (keys(0, 30, 365), "samples_days"),
            (keys(8, 7, 365), "minutes_days"),
            (keys(7, 30, 29), "hours_days"),
            (keys(7, 30, DAYS_MAX + 1), "hours_days"),
        ] {
            let line = bad.check().unwrap_err().to_string();
            assert!(line.contains(name), "{line}");
        }
    }
}
