//! What the live top asks for, and how keys move it: the order, the width of the time looked at, and where it ends.
//! Pure.

use jiff::{SignedDuration, Timestamp};
use procscope_proto::v1::TimeRange;

use crate::{
    args::{By, Sort},
    when,
};

/// How many intervals one screen covers; the first is the default.
const WIDTHS: [u32; 5] = [1, 10, 60, 600, 3_600];

/// What the rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Something that the collector ranks by.
    By(Sort),
    /// CPU time over the whole life of a process; within the range for a group.
    Time,
    /// The number of the process.
    Pid,
}

impl Order {
    /// All of them, as the menu lists them.
    pub(super) const ALL: [Self; 9] = [
        Self::By(Sort::Cpu),
        Self::By(Sort::Memory),
        Self::By(Sort::Peak),
        Self::Time,
        Self::By(Sort::Runqueue),
        Self::By(Sort::Io),
        Self::By(Sort::Faults),
        Self::By(Sort::Switches),
        Self::Pid,
    ];

    /// What the collector is asked to rank by: it knows nothing of the others.
    pub(super) fn sort(self) -> Sort {
        match self {
            Self::By(sort) => sort,
            Self::Time | Self::Pid => Sort::Cpu,
        }
    }

    /// As people say it: `by CPU`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::By(sort) => sort.word(),
            Self::Time => "CPU time",
            Self::Pid => "PID",
        }
    }

    /// The column beside this one; both ends meet.
    pub(super) fn beside(self, forward: bool) -> Self {
        let count = Self::ALL.len();
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or(0);
        let next = if forward { at + 1 } else { at + count - 1 } % count;
        Self::ALL[next]
    }
}

/// A time that is over, half-open. What is asked for is the intervals up to its end; the answer says where they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Past {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Past {
    /// The range of an answer, when it is one.
    pub(super) fn of(range: Option<&TimeRange>) -> Option<Self> {
        match when::ends(range) {
            (Some(start), Some(end)) if start < end => Some(Self { start, end }),
            _ => None,
        }
    }

    /// The same for the wire.
    pub(super) fn wire(self) -> TimeRange {
        TimeRange {
            start: None,
            end: Some(when::to_wire(self.end)),
        }
    }

    fn length(self) -> SignedDuration {
        self.end.duration_since(self.start)
    }

    /// So many lengths later, or earlier; `None` beyond the calendar.
    fn moved(self, lengths: i32) -> Option<Self> {
        let by = self.length().checked_mul(lengths)?;
        Some(Self {
            start: self.start.checked_add(by).ok()?,
            end: self.end.checked_add(by).ok()?,
        })
    }
}

/// What the collector is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub by: By,
    pub order: Order,
    pub filter: String,
    /// Empty: all.
    pub hosts: Vec<String>,
    /// The last so many complete intervals.
    pub intervals: u32,
    /// A time that is over in their place.
    pub past: Option<Past>,
}

impl Query {
    /// Of the newest interval.
    pub(super) fn new(by: By, sort: Sort, filter: String, hosts: Vec<String>) -> Self {
        Self {
            by,
            order: Order::By(sort),
            filter,
            hosts,
            intervals: WIDTHS[0],
            past: None,
        }
    }

    /// Whether an answer to the other question is one to this, but for order and filter, which are applied here too.
    pub(super) fn is_answered_by(&self, other: &Self) -> bool {
        (self.by, &self.hosts, self.intervals, self.past)
            == (other.by, &other.hosts, other.intervals, other.past)
    }

    /// Looks so many widths earlier (or later, when negative) than `shown`; from `newest` on it is now again.
    /// Whether anything changed.
    pub(super) fn look_back(&mut self, widths: i32, shown: Option<Past>, newest: Option<Timestamp>) -> bool {
        let before = self.past;
        let Some(from) = self.past.or(shown.filter(|_| widths > 0)) else {
            return false;
        };
        let Some(target) = widths.checked_neg().and_then(|later| from.moved(later)) else {
            return false;
        };
        self.past = Some(target).filter(|target| newest.is_none_or(|newest| target.end < newest));
        self.past != before
    }

    /// Looks at more time, or less. Whether anything changed.
    pub(super) fn widen(&mut self, wider: bool) -> bool {
        let next = if wider {
            WIDTHS.into_iter().find(|width| *width > self.intervals)
        } else {
            WIDTHS.into_iter().rev().find(|width| *width < self.intervals)
        };
        let Some(next) = next else { return false };
        if let Some(past) = &mut self.past {
            // The end stays where it is.
            let one = past
                .length()
                .checked_div(i32::try_from(self.intervals).unwrap_or(1));
            let length = one.and_then(|one| one.checked_mul(i32::try_from(next).unwrap_or(1)));
            match length.and_then(|length| past.end.checked_sub(length).ok()) {
                Some(start) if start < past.end => past.start = start,
                _ => return false,
            }
        }
        self.intervals = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn past(start: i64, end: i64) -> Past {
        Past {
            start: Timestamp::from_second(start).unwrap(),
            end: Timestamp::from_second(end).unwrap(),
        }
    }

    fn query() -> Query {
        Query::new(By::Process, Sort::Cpu, String::new(), Vec::new())
    }

    #[test]
    fn a_step_back_is_as_long_as_what_is_looked_at_and_steps_forward_lead_back_to_now() {
        let mut query = query();
        let newest = Timestamp::from_second(1_002).ok();
        let mut check = |widths, changed, expected: Option<Past>| {
            assert_eq!(query.look_back(widths, Some(past(990, 1_000)), newest), changed);
            assert_eq!(query.past, expected);
        };
        check(-1, false, None);
        check(1, true, Some(past(980, 990)));
        check(10, true, Some(past(880, 890)));
        check(-10, true, Some(past(980, 990)));
        check(-1, true, Some(past(990, 1_000)));
        check(-1, true, None);
    }

    #[test]
    fn more_time_ends_where_less_did() {
        let mut query = query();
        assert!(!query.widen(false));
        query.past = Some(past(999, 1_000));
        assert!(query.widen(true));
        assert_eq!((query.intervals, query.past), (10, Some(past(990, 1_000))));
        assert!(query.widen(true) && query.widen(true) && query.widen(true) && !query.widen(true));
        assert_eq!(query.past, Some(past(-2_600, 1_000)));
        assert!(query.widen(false));
        assert_eq!(query.past, Some(past(400, 1_000)));
    }

    #[test]
    fn each_order_is_reached_from_each() {
        let mut order = Order::Pid;
        for expected in Order::ALL {
            order = order.beside(true);
            assert_eq!(order, expected);
            assert_eq!(order.beside(false).beside(true), order);
        }
    }

    proptest! {
        #[test]
        fn no_time_is_too_far_away(
            start in -377_705_023_201_i64..253_402_207_200,
            length in 1_i64..1_000_000_000,
            moves in proptest::collection::vec((any::<bool>(), any::<i32>(), any::<bool>()), 0..20),
        ) {
            let mut query = query();
            let end = Timestamp::from_second(start.saturating_add(length)).unwrap_or(Timestamp::MAX);
            query.past = Some(Past { start: Timestamp::from_second(start).unwrap(), end });
            for (widen, widths, wider) in moves {
                if widen {
                    query.widen(wider);
                } else {
                    query.look_back(widths, None, None);
                }
                if let Some(past) = query.past {
                    prop_assert!(past.start < past.end);
                }
            }
        }
    }
}
