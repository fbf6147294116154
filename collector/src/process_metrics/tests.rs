//! One who scrapes sees every interval in exactly one series, whatever the groups do meanwhile.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::model::fixtures::{sample, snapshot};

/// What happens to the figures.
#[derive(Debug, Clone)]
enum Step {
    /// A snapshot with the CPU time of some commands.
    Stored(Vec<(u8, u32)>),
    Scraped,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let used = proptest::collection::vec((0..8u8, any::<u32>()), 0..6);
    let step = prop_oneof![3 => used.prop_map(Step::Stored), 1 => Just(Step::Scraped)];
    // From a scrape each second to one in two hours.
    proptest::collection::vec((step, prop_oneof![Just(1), Just(60), Just(7_200)]), 1..80)
}

/// The CPU time of each series of a page, in nanoseconds.
fn series(page: &str) -> BTreeMap<String, u64> {
    let lines = page
        .lines()
        .filter_map(|line| line.strip_prefix("namedprocess_namegroup_cpu_seconds_total"));
    let parse = |line: &str| {
        let (labels, value) = line.rsplit_once(' ').unwrap();
        let (seconds, ns) = value.split_once('.').unwrap();
        let ns: u64 = format!("{seconds}{ns}").parse().unwrap();
        (labels.to_owned(), ns)
    };
    lines.map(parse).collect()
}

/// A server that scrapes and adds up, as `increase()` does for a reader that misses nothing.
#[derive(Default)]
struct Reader {
    last: Option<BTreeMap<String, u64>>,
    rises: u64,
    since: HashMap<String, Instant>,
}

impl Reader {
    fn scrape(&mut self, metrics: &ProcessMetrics, now: Instant) {
        let page = series(&metrics.page(now));
        for (name, value) in &page {
            let before = match &self.last {
                Some(last) => last.get(name).copied().unwrap_or_else(|| {
                    assert_eq!(*value, 0, "{name} begins at zero");
                    self.since.insert(name.clone(), now);
                    0
                }),
                None => 0,
            };
            assert!(*value >= before, "{name} falls from {before} to {value}");
            self.rises += value - before;
        }
        self.since.retain(|name, since| {
            let is_there = page.contains_key(name);
            assert!(
                is_there || now.duration_since(*since) >= STAY,
                "{name} did not stay"
            );
            is_there
        });
        self.last = Some(page);
    }
}

fn used(commands: &[(u8, u32)], seq: u64) -> Snapshot {
    let samples = commands.iter().map(|(name, cpu_ns)| {
        // One of them is called as the group of all others is.
        let name = if *name == 7 {
            OTHER.to_owned()
        } else {
            format!("c{name}")
        };
        ProcessSample {
            cpu_time_ns_delta: u64::from(*cpu_ns),
            user_time_ns_delta: (cpu_ns % 3 > 0).then_some(u64::from(cpu_ns / 2)),
            system_time_ns_delta: (cpu_ns % 3 > 1).then_some(u64::from(cpu_ns - cpu_ns / 2)),
            ..sample(&name)
        }
    });
    Snapshot {
        samples: samples.collect(),
        time_ms: i64::try_from(seq).unwrap() * 1_000,
        ..snapshot(seq)
    }
}

proptest! {
    #[test]
    fn every_interval_is_in_one_series_and_none_falls(steps in steps()) {
        let metrics = ProcessMetrics::with_bounds(2, 4);
        let mut reader = Reader::default();
        let mut now = Instant::now();
        let mut total = 0;
        for (seq, (step, seconds)) in (1..).zip(steps) {
            now += Duration::from_secs(seconds);
            match step {
                Step::Stored(commands) => {
                    total += commands.iter().map(|(_, cpu_ns)| u64::from(*cpu_ns)).sum::<u64>();
                    metrics.stored(&used(&commands, seq), now);
                }
                Step::Scraped => reader.scrape(&metrics, now),
            }
            let state = metrics.lock();
            prop_assert!(state.commands.len() <= 4 + 2 * 2, "{}", state.commands.len());
            prop_assert!(state.commands.values().filter(|command| command.is_counting()).count() <= 2);
        }
        reader.scrape(&metrics, now);
        prop_assert_eq!(reader.rises, total);
    }
}

#[test]
fn a_group_is_shown_stays_an_hour_and_makes_room() {
    let metrics = ProcessMetrics::with_bounds(1, 10);
    let begin = Instant::now();
    let at = |minutes: u64| begin + Duration::from_mins(minutes);
    let names = |page: &str| {
        let lines = page
            .lines()
            .filter_map(|line| line.strip_prefix("namedprocess_namegroup_num_procs{groupname="));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    metrics.stored(&used(&[(1, 9)], 1), at(0));
    assert_eq!(
        names(&metrics.page(at(0))),
        ["\"c1\"} 0", "\"other\"} 1"],
        "it counts from here"
    );
    metrics.stored(&used(&[(1, 1), (2, 1_000)], 2), at(1));
    assert_eq!(names(&metrics.page(at(1))), ["\"c1\"} 1", "\"other\"} 1"]);
    metrics.stored(&used(&[(2, 1_000)], 3), at(59));
    assert_eq!(
        names(&metrics.page(at(59))),
        ["\"c1\"} 0", "\"other\"} 1"],
        "an hour is not over"
    );
    metrics.stored(&used(&[(2, 1_000)], 4), at(60));
    let both = names(&metrics.page(at(60)));
    assert_eq!(
        both,
        ["\"c1\"} 0", "\"c2\"} 0", "\"other\"} 1"],
        "shown once more, and the next from zero"
    );
    metrics.stored(&used(&[(2, 1_000)], 5), at(61));
    assert_eq!(names(&metrics.page(at(61))), ["\"c2\"} 1", "\"other\"} 0"]);
    // A host that is silent is nobody's any more; what it has used stays.
    let page = metrics.page(at(70));
    assert_eq!(names(&page), ["\"c2\"} 0", "\"other\"} 0"]);
    assert_eq!(series(&page).values().sum::<u64>(), 9 + 1 + 4_000 - 1);
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn what_came_late_counts_and_changes_nothing_that_is_now() {
    let metrics = ProcessMetrics::default();
    let now = Instant::now();
    metrics.stored(&used(&[(1, 5), (1, 5)], 9), now);
    metrics.stored(&used(&[(1, 5)], 3), now);
    let page = metrics.page(now);
    assert_eq!(series(&page).values().sum::<u64>(), 15);
    assert!(
        page.contains("namedprocess_namegroup_num_procs{groupname=\"other\"} 2\n"),
        "{page}"
    );
}

#[test]
fn a_name_is_the_value_of_a_label() {
    let metrics = ProcessMetrics::default();
    let now = Instant::now();
    let mut snapshot = used(&[(1, 5)], 1);
    snapshot.samples[0].identity.name = "a\"b\\x0a".into();
    metrics.stored(&snapshot, now);
    let page = metrics.page(now);
    assert!(
        page.contains("groupname=\"a\\\"b\\\\x0a\",mode=\"user\""),
        "{page}"
    );
}
