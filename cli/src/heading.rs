//! What stands above every table: which time, which hosts, how much of it was seen, and what was lost. Pure.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use procscope_proto::v1::{Coverage, CoverageLoss, Host, TimeRange};

use crate::{text, units, when};

/// More hosts than these are counted, not named.
const HOSTS_NAMED_MAX: usize = 3;
/// More reasons of loss than these are counted, not named.
const LOSSES_NAMED_MAX: usize = 8;
/// Ends of ranges are whole milliseconds of the wall clock, lengths of intervals nanoseconds of another: a few
/// of them are nobody's loss.
const CLOCK_SECONDS: f64 = 0.005;
/// By so much the wall clock may be slewed against the one that measures intervals (500 ppm, see adjtimex(2)).
const CLOCK_SLEW: f64 = 0.000_5;
/// An answer about now whose end is older than this, and than so many intervals of its hosts, says so.
const STALE_NS_MIN: u64 = 10_000_000_000;
const STALE_INTERVALS: u64 = 3;
/// A host counts for the length of the range; so much of one, in hundredths, is a matter of rounding.
const HUNDREDTHS_OF_A_HOST: u128 = 1;
/// Between two parts of a line.
const BETWEEN: &str = " · ";

/// The hosts that an answer is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub names: Vec<String>,
    /// These are all that sent something in the range; others of its coverage are silent.
    all: bool,
}

impl Hosts {
    /// All that sent something.
    pub(crate) fn all(names: Vec<String>) -> Self {
        Self { names, all: true }
    }

    /// Those that are known; there may be more.
    pub(crate) fn some(names: Vec<String>) -> Self {
        Self { names, all: false }
    }

    /// Those that were seen; those of the rows where nobody told them.
    pub(crate) fn seen<'a>(seen: &[Host], of_rows: impl IntoIterator<Item = &'a String>) -> Self {
        Self {
            names: host_names(seen, of_rows),
            all: !seen.is_empty(),
        }
    }

    /// How many more the coverage counts, at least: one that is new counts for less than the range.
    fn silent(&self, range: Option<&TimeRange>, coverage: Option<&Coverage>) -> u128 {
        let nobody_sent =
            |coverage: &Coverage| self.names.is_empty() && coverage.observed_host_seconds <= 0.0;
        let (Some(length_ns), Some(coverage)) = (length_ns(range), coverage) else {
            return 0;
        };
        if !self.all && !nobody_sent(coverage) {
            return 0;
        }
        let length_ns = u128::from(length_ns);
        let total = Duration::try_from_secs_f64(coverage.total_host_seconds).unwrap_or_default();
        let rounding = length_ns * HUNDREDTHS_OF_A_HOST / 100;
        let hosts = total.as_nanos().saturating_sub(rounding).div_ceil(length_ns);
        hosts.saturating_sub(u128::try_from(self.names.len()).unwrap_or(u128::MAX))
    }

    /// `host a, and 4 that sent nothing`.
    fn words(&self, range: Option<&TimeRange>, coverage: Option<&Coverage>) -> String {
        let named = name_hosts(&self.names);
        match (&*named, self.silent(range, coverage)) {
            (_, 0) => named,
            ("", 1) => "1 host that sent nothing".to_owned(),
            ("", silent) => format!("{silent} hosts that sent nothing"),
            (_, silent) => format!("{named}, and {silent} that sent nothing"),
        }
    }
}

/// Lines of at most `width` columns about what an answer covers. `about` comes first and is ours.
pub(crate) fn lines(
    about: &str,
    range: Option<&TimeRange>,
    hosts: &Hosts,
    coverage: Option<&Coverage>,
    width: usize,
) -> Vec<String> {
    let hosts = hosts.words(range, coverage);
    self::about(
        &[
            about.to_owned(),
            range_with_length(range),
            hosts,
            coverage_words(coverage),
        ],
        coverage,
        width,
    )
}

/// The same from parts of one's own.
pub(crate) fn about(parts: &[String], coverage: Option<&Coverage>, width: usize) -> Vec<String> {
    let mut lines = wrap(parts, width);
    lines.extend(lost_lines(coverage, width));
    lines
}

/// What was not observed and what was lost, in lines of their own; none when nothing was.
pub(crate) fn lost_lines(coverage: Option<&Coverage>, width: usize) -> Vec<String> {
    wrap(&lost(coverage), width)
}

/// `2026-01-31 12:00:00 - 12:00:10 UTC (10.0 s)`.
pub(crate) fn range_with_length(range: Option<&TimeRange>) -> String {
    let length = length_ns(range).map_or_else(String::new, |ns| format!(" ({})", units::duration(ns)));
    format!("{}{length}", when::show_range(range))
}

/// Length of a range.
pub(crate) fn length_ns(range: Option<&TimeRange>) -> Option<u64> {
    match when::ends(range) {
        (Some(start), Some(end)) if end > start => Some(when::between_ns(start, end)),
        _ => None,
    }
}

/// `coverage 93.2 % (ebpf)`.
pub(crate) fn coverage_words(coverage: Option<&Coverage>) -> String {
    let Some(coverage) = coverage else {
        return "coverage unknown".to_owned();
    };
    let sources: Vec<String> = coverage.sources.iter().map(|source| text::safe(source)).collect();
    let sources = if sources.is_empty() {
        String::new()
    } else {
        format!(" ({})", sources.join(", "))
    };
    format!("coverage {}{sources}", share(coverage))
}

/// The share that was seen, in words.
pub(crate) fn share(coverage: &Coverage) -> String {
    units::share(if is_complete(coverage) {
        1.0
    } else {
        coverage.share
    })
}

/// Whether nothing is missing but what two clocks differ by.
fn is_complete(coverage: &Coverage) -> bool {
    let missing = coverage.total_host_seconds - coverage.observed_host_seconds;
    coverage.total_host_seconds > 0.0 && missing <= CLOCK_SECONDS + coverage.total_host_seconds * CLOCK_SLEW
}

/// What was not observed and what was lost, a part each.
pub(crate) fn lost(coverage: Option<&Coverage>) -> Vec<String> {
    let Some(coverage) = coverage else {
        return Vec::new();
    };
    let mut parts = Vec::new();
    let missing = coverage.total_host_seconds - coverage.observed_host_seconds;
    // Where no host was there to observe, nothing was missed.
    if missing > 0.0 && !is_complete(coverage) {
        parts.push(format!(
            "coverage {}: {} of {} of host time was not observed",
            share(coverage),
            units::seconds(missing),
            units::seconds(coverage.total_host_seconds)
        ));
    }
    if !coverage.losses.is_empty() {
        parts.push(format!("lost: {}", name_losses(&coverage.losses)));
    }
    parts
}

/// `map_full 12, queue_full 3`.
pub(crate) fn name_losses(losses: &[CoverageLoss]) -> String {
    let mut named: Vec<String> = losses
        .iter()
        .take(LOSSES_NAMED_MAX)
        .map(|loss| format!("{} {}", text::safe(&loss.reason), units::count(loss.count)))
        .collect();
    if losses.len() > LOSSES_NAMED_MAX {
        named.push(format!("and {} more reasons", losses.len() - LOSSES_NAMED_MAX));
    }
    named.join(", ")
}

/// `host a`, `hosts a, b`, `7 hosts`.
pub(crate) fn name_hosts(hosts: &[String]) -> String {
    match hosts {
        [] => String::new(),
        [host] => format!("host {}", text::safe(host)),
        few if few.len() <= HOSTS_NAMED_MAX => {
            let names: Vec<String> = few.iter().map(|host| text::safe(host)).collect();
            format!("hosts {}", names.join(", "))
        }
        many => format!("{} hosts", many.len()),
    }
}

/// The names of the hosts that an answer is about; those of its rows where nobody told them.
pub(crate) fn host_names<'a>(seen: &[Host], of_rows: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let names: BTreeSet<&String> = if seen.is_empty() {
        of_rows.into_iter().collect()
    } else {
        seen.iter().map(|host| &host.host).collect()
    };
    names.into_iter().cloned().collect()
}

/// How old the newest data is, where that is worth a word; `None` when agents send as they should.
pub(crate) fn stale(range: Option<&TimeRange>, seen: &[Host], now: Timestamp) -> Option<String> {
    let age_ns = when::between_ns(when::ends(range).1?, now);
    let interval_ns = seen.iter().map(|host| host.interval_ns).max().unwrap_or(0);
    if age_ns <= STALE_NS_MIN.max(interval_ns.saturating_mul(STALE_INTERVALS)) {
        return None;
    }
    Some(format!(
        "newest data is {} old: is the agent running?",
        units::duration(age_ns)
    ))
}

/// Parts into lines, broken only between parts.
fn wrap(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        match lines.last_mut() {
            Some(line) if text::width(line) + text::width(BETWEEN) + text::width(part) <= width => {
                line.extend([BETWEEN, part]);
            }
            _ => lines.push(text::fit(part, width)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> TimeRange {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        TimeRange {
            start: at(1_769_860_800),
            end: at(1_769_860_810),
        }
    }

    fn coverage(share: f64, losses: &[(&str, u64)]) -> Coverage {
        Coverage {
            share,
            observed_host_seconds: 10.0 * share,
            total_host_seconds: 10.0,
            losses: losses
                .iter()
                .map(|(reason, count)| CoverageLoss {
                    reason: (*reason).to_owned(),
                    count: *count,
                })
                .collect(),
            sources: vec!["ebpf".to_owned()],
        }
    }

    fn check(coverage: &Coverage, width: usize, expected: &[&str]) {
        assert_eq!(
            lines(
                "top",
                Some(&range()),
                &Hosts::all(vec!["vm".to_owned()]),
                Some(coverage),
                width
            ),
            expected
        );
    }

    #[test]
    fn what_was_fully_seen_takes_one_line() {
        check(
            &coverage(1.0, &[]),
            120,
            &["top · 2026-01-31 12:00:00 - 12:00:10 UTC (10.0 s) · host vm · coverage 100 % (ebpf)"],
        );
    }

    #[test]
    fn what_is_missing_and_lost_is_said() {
        check(
            &coverage(0.9, &[("map_full", 1200), ("evil\x1b[0m", 1)]),
            120,
            &[
                "top · 2026-01-31 12:00:00 - 12:00:10 UTC (10.0 s) · host vm · coverage 90.0 % (ebpf)",
                "coverage 90.0 %: 1.00 s of 10.0 s of host time was not observed · lost: map_full 1,200, evil\\x1b[0m 1",
            ],
        );
    }

    #[test]
    fn what_two_clocks_differ_by_is_no_loss() {
        let words = |share| coverage_words(Some(&coverage(share, &[])));
        assert_eq!(words(0.999_5), "coverage 100 % (ebpf)");
        assert_eq!(words(0.998), "coverage 99.8 % (ebpf)");
        assert!(lost(Some(&coverage(0.999_5, &[]))).is_empty());
        assert_eq!(coverage_words(Some(&Coverage::default())), "coverage 0.0 %");
        assert!(lost(Some(&Coverage::default())).is_empty());
    }

    #[test]
    fn a_narrow_terminal_gets_more_lines() {
        check(
            &coverage(1.0, &[]),
            48,
            &[
                "top",
                "2026-01-31 12:00:00 - 12:00:10 UTC (10.0 s)",
                "host vm · coverage 100 % (ebpf)",
            ],
        );
        check(
            &coverage(0.9, &[("map_full", 1)]),
            70,
            &[
                "top · 2026-01-31 12:00:00 - 12:00:10 UTC (10.0 s) · host vm",
                "coverage 90.0 % (ebpf)",
                "coverage 90.0 %: 1.00 s of 10.0 s of host time was not observed",
                "lost: map_full 1",
            ],
        );
    }

    #[test]
    fn the_hosts_are_those_that_were_seen_whether_or_not_they_have_a_row() {
        let host = |name: &str| Host {
            host: name.to_owned(),
            ..Host::default()
        };
        let of_rows = ["b".to_owned(), "b".to_owned()];
        let check = |seen: &[&str], words: &str| {
            let seen: Vec<Host> = seen.iter().map(|name| host(name)).collect();
            assert_eq!(name_hosts(&host_names(&seen, &of_rows)), words);
        };
        check(&["a", "b"], "hosts a, b");
        check(&["a", "b", "c", "d"], "4 hosts");
        check(&[], "host b");
        assert_eq!(name_hosts(&[]), "");
    }

    #[test]
    fn hosts_that_count_and_sent_nothing_are_counted_in_words() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let check = |hosts: &Hosts, observed_host_seconds, total_host_seconds, words: &str| {
            let coverage = Coverage {
                observed_host_seconds,
                total_host_seconds,
                ..Coverage::default()
            };
            assert_eq!(hosts.words(Some(&range()), Some(&coverage)), words);
        };
        let one = Hosts::all(names(&["vm"]));
        check(&one, 10.0, 50.0, "host vm, and 4 that sent nothing");
        check(&one, 10.0, 10.000_001, "host vm");
        // New: it counts from its first interval.
        check(&one, 2.0, 2.0, "host vm");
        check(&one, 2.0, 12.0, "host vm, and 1 that sent nothing");
        let many = Hosts::all(names(&["a", "b", "c", "d"]));
        check(&many, 40.0, 60.0, "4 hosts, and 2 that sent nothing");
        // From its rows alone nobody knows who else sent something, unless nobody did.
        check(&Hosts::some(names(&["vm"])), 10.0, 50.0, "host vm");
        check(&Hosts::some(names(&["vm"])), 0.0, 50.0, "host vm");
        check(&Hosts::seen(&[], &[]), 0.0, 20.0, "2 hosts that sent nothing");
        check(&Hosts::seen(&[], &[]), 0.0, 10.0, "1 host that sent nothing");
        check(&Hosts::seen(&[], &[]), 5.0, 10.0, "");
        assert_eq!(one.words(None, Some(&Coverage::default())), "host vm");
    }

    #[test]
    fn an_answer_that_is_old_says_so() {
        let age = |seconds: i64, interval_s: u64| {
            let host = Host {
                interval_ns: interval_s * 1_000_000_000,
                ..Host::default()
            };
            let now = Timestamp::from_second(1_769_860_810 + seconds).unwrap();
            stale(Some(&range()), &[host], now)
        };
        assert_eq!(
            age(240, 1).as_deref(),
            Some("newest data is 4m00s old: is the agent running?")
        );
        assert_eq!(age(10, 1), None);
        assert_eq!(age(30, 10), None);
        assert!(age(31, 10).is_some());
        assert_eq!(age(-5, 1), None);
    }
}
