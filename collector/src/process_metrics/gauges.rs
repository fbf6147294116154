//! What the processes of each group are now: the sum over hosts of what each said last.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::OTHER;
use crate::model::{ProcessSample, Snapshot};

/// A host that has said nothing for so long is not counted any more: Prometheus forgets a series after five minutes.
const SILENT: Duration = Duration::from_mins(5);

/// Hosts whose state is kept: more than agents may be connected.
const HOSTS_MAX: usize = 20_000;

/// What some processes are at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Gauges {
    pub(super) processes: u64,
    pub(super) threads: u64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) swapped_bytes: u64,
    pub(super) open_files: u64,
    /// The greatest share of its limit that one of them has open.
    pub(super) worst_files_ratio: f64,
    /// Start of the oldest, in milliseconds since 1970; 0: there is none.
    pub(super) oldest_start_ms: i64,
    /// By state: running, sleeping, waiting, zombie, other.
    pub(super) states: [u64; 5],
}

/// Names of the states, in their order.
pub(super) const STATES: [&str; 5] = ["Running", "Sleeping", "Waiting", "Zombie", "Other"];

impl Gauges {
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a ratio needs no 64 bits"
    )]
    pub(super) fn of(sample: &ProcessSample) -> Self {
        let open_files = sample.open_file_descriptors.map_or(0, u64::from);
        let limit = sample.open_file_descriptor_limit.unwrap_or(0);
        let state = match sample.state {
            "R" => 0,
            "S" | "I" => 1,
            "D" => 2,
            "Z" => 3,
            _ => 4,
        };
        let mut states = [0; 5];
        states[state] = 1;
        Self {
            processes: 1,
            threads: sample.threads.into(),
            resident_bytes: sample.rss_bytes.unwrap_or(0),
            virtual_bytes: sample.virtual_bytes.unwrap_or(0),
            swapped_bytes: sample.swap_bytes.unwrap_or(0),
            open_files,
            worst_files_ratio: if limit > 0 {
                open_files as f64 / limit as f64
            } else {
                0.0
            },
            oldest_start_ms: sample.identity.start_time_ms,
            states,
        }
    }

    pub(super) fn add(&mut self, more: &Self) {
        let oldest = |a: i64, b: i64| if a == 0 || (b != 0 && b < a) { b } else { a };
        self.processes += more.processes;
        self.threads += more.threads;
        self.resident_bytes = self.resident_bytes.saturating_add(more.resident_bytes);
        self.virtual_bytes = self.virtual_bytes.saturating_add(more.virtual_bytes);
        self.swapped_bytes = self.swapped_bytes.saturating_add(more.swapped_bytes);
        self.open_files = self.open_files.saturating_add(more.open_files);
        self.worst_files_ratio = self.worst_files_ratio.max(more.worst_files_ratio);
        self.oldest_start_ms = oldest(self.oldest_start_ms, more.oldest_start_ms);
        for (sum, more) in self.states.iter_mut().zip(more.states) {
            *sum += more;
        }
    }
}

/// What one host said last.
#[derive(Debug)]
struct Host {
    time_ms: i64,
    heard: Instant,
    groups: Vec<(Arc<str>, Gauges)>,
    other: Gauges,
}

/// All hosts.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    by_name: HashMap<Arc<str>, Host>,
    /// Snapshots of hosts for which there was no room.
    pub(super) turned_away: u64,
}

impl Hosts {
    /// Notes what the processes of each command on a host are, unless it said something newer before; `of_group` names
    /// the group of a command.
    pub(super) fn note<'a>(
        &mut self,
        snapshot: &Snapshot,
        by_command: impl Iterator<Item = (&'a str, &'a Gauges)>,
        of_group: impl Fn(&str) -> Option<Arc<str>>,
        now: Instant,
    ) {
        let known = self.by_name.get(&snapshot.host);
        if known.is_some_and(|host| host.time_ms >= snapshot.time_ms) {
            return;
        }
        if known.is_none() && self.by_name.len() >= HOSTS_MAX {
            self.turned_away += 1;
            return;
        }
        let mut groups: HashMap<Arc<str>, Gauges> = HashMap::new();
        let mut other = Gauges::default();
        for (name, gauges) in by_command.filter(|(_name, gauges)| gauges.processes > 0) {
            match of_group(name) {
                Some(group) => groups.entry(group).or_default().add(gauges),
                None => other.add(gauges),
            }
        }
        let host = Host {
            time_ms: snapshot.time_ms,
            heard: now,
            groups: groups.into_iter().collect(),
            other,
        };
        self.by_name.insert(Arc::clone(&snapshot.host), host);
    }

    pub(super) fn forget_silent(&mut self, now: Instant) {
        self.by_name
            .retain(|_name, host| now.saturating_duration_since(host.heard) < SILENT);
    }

    /// The sum over hosts of each group.
    pub(super) fn sums(&self) -> HashMap<&str, Gauges> {
        let mut sums: HashMap<&str, Gauges> = HashMap::new();
        for host in self.by_name.values() {
            for (name, gauges) in &host.groups {
                sums.entry(name).or_default().add(gauges);
            }
            sums.entry(OTHER).or_default().add(&host.other);
        }
        sums
    }
}
