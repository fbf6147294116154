//! What a group used on a host, as sums that can be added up and are not yet divided by what the host observed.

use clickhouse::Row;
use serde::Deserialize;

use super::{
    answers::TopRow,
    figures::{MB, add, add_all, bytes_ns, mixed},
};
use crate::model::{ns_to_seconds, to_f64};

/// What is known of a group on a host in a part of a range.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/top_group_figures.sql")]
pub struct GroupFigures {
    pub ran_on: String,
    pub member_of: String,
    pub last_seen_ms: i64,
    pub newest_ms: i64,
    pub peak_bytes: Option<u64>,
    pub peak_descriptors: Option<u64>,
    pub measured: String,
    pub kernel_only: bool,
    pub cpu_ns: u64,
    pub rss_byte_ns: u128,
    pub alive_ns: u64,
    pub runqueue_ns: Option<u64>,
    pub voluntary: Option<u64>,
    pub involuntary: Option<u64>,
    pub minor: Option<u64>,
    pub major: Option<u64>,
    pub user_ns: Option<u64>,
    pub system_ns: Option<u64>,
    pub waits: Option<u64>,
    pub bytes_read: Option<u64>,
    pub bytes_written: Option<u64>,
    pub reads: Option<u64>,
    pub writes: Option<u64>,
    pub disk_read: Option<u64>,
    pub disk_written: Option<u64>,
    pub ended_threads_ns: Option<u64>,
    pub threads_now: u64,
    pub rss_now: Option<u64>,
    pub rss_anon_now: Option<u64>,
    pub rss_file_now: Option<u64>,
    pub rss_shmem_now: Option<u64>,
    pub swap_now: Option<u64>,
    pub virtual_now: Option<u64>,
    pub wait_counts: Vec<u64>,
}

impl GroupFigures {
    /// Both parts of the range as one: sums are added, and of now the later part tells.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (mut sum, earlier) = if self.newest_ms >= other.newest_ms {
            (self, other)
        } else {
            (other, self)
        };
        sum.last_seen_ms = sum.last_seen_ms.max(earlier.last_seen_ms);
        sum.peak_bytes = sum.peak_bytes.max(earlier.peak_bytes);
        sum.peak_descriptors = sum.peak_descriptors.max(earlier.peak_descriptors);
        sum.measured = mixed(sum.measured, &earlier.measured);
        sum.kernel_only &= earlier.kernel_only;
        sum.cpu_ns = sum.cpu_ns.saturating_add(earlier.cpu_ns);
        sum.rss_byte_ns = sum.rss_byte_ns.saturating_add(earlier.rss_byte_ns);
        sum.alive_ns = sum.alive_ns.saturating_add(earlier.alive_ns);
        add_all([
            (&mut sum.runqueue_ns, earlier.runqueue_ns),
            (&mut sum.voluntary, earlier.voluntary),
            (&mut sum.involuntary, earlier.involuntary),
            (&mut sum.minor, earlier.minor),
            (&mut sum.major, earlier.major),
            (&mut sum.user_ns, earlier.user_ns),
            (&mut sum.system_ns, earlier.system_ns),
            (&mut sum.waits, earlier.waits),
            (&mut sum.bytes_read, earlier.bytes_read),
            (&mut sum.bytes_written, earlier.bytes_written),
            (&mut sum.reads, earlier.reads),
            (&mut sum.writes, earlier.writes),
            (&mut sum.disk_read, earlier.disk_read),
            (&mut sum.disk_written, earlier.disk_written),
            (&mut sum.ended_threads_ns, earlier.ended_threads_ns),
        ]);
        add(&mut sum.wait_counts, &earlier.wait_counts);
        sum
    }

    /// The same for a host whose newest interval ended then: what is told of now is of that instant or of none.
    #[must_use]
    pub fn at(self, newest_ms: i64) -> Self {
        if self.newest_ms == newest_ms {
            return self;
        }
        Self {
            threads_now: 0,
            rss_now: None,
            rss_anon_now: None,
            rss_file_now: None,
            rss_shmem_now: None,
            swap_now: None,
            virtual_now: None,
            ..self
        }
    }

    /// Bytes that they take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + 128 + self.wait_counts.len() * size_of::<u64>()
    }
}

/// A group on all its hosts, each with what that observed, as a row of a top. Hosts are added, never averaged; the instants
/// of their peaks differ, so the sum of these is an upper bound.
#[must_use]
pub fn row(name: String, hosts: &[(GroupFigures, u64)]) -> TopRow {
    let figures = || hosts.iter().map(|(figures, _observed_ns)| figures);
    // In their order of size: a sum of floats depends on the order, and answers must not.
    let shares = |of: fn(&GroupFigures) -> f64| {
        let mut shares: Vec<_> = hosts
            .iter()
            .map(|(figures, observed_ns)| of(figures) / to_f64(*observed_ns))
            .collect();
        shares.sort_by(f64::total_cmp);
        shares.into_iter().sum::<f64>()
    };
    let total = |of: fn(&GroupFigures) -> u64| figures().map(of).fold(0, u64::saturating_add);
    let sum = |of: fn(&GroupFigures) -> Option<u64>| {
        let known = figures().filter_map(of);
        known.reduce(u64::saturating_add)
    };
    let seconds = |of| sum(of).map(ns_to_seconds);
    let kernel_only = figures().all(|figures| figures.kernel_only);
    let mut member_hosts: Vec<_> = figures().map(|figures| figures.ran_on.clone()).collect();
    member_hosts.sort();
    let mut runqueue_wait_counts = Vec::new();
    for figures in figures() {
        add(&mut runqueue_wait_counts, &figures.wait_counts);
    }
    let source = figures().map(|figures| figures.measured.clone());
    TopRow {
        name,
        member_hosts,
        avg_cpu_percent: shares(|figures| to_f64(figures.cpu_ns)) * 100.0,
        cpu_seconds: ns_to_seconds(total(|figures| figures.cpu_ns)),
        avg_memory_mb: (!kernel_only).then(|| shares(|figures| bytes_ns(figures.rss_byte_ns)) / MB),
        peak_memory_mb: sum(|figures| figures.peak_bytes).map(|bytes| to_f64(bytes) / MB),
        avg_num_procs: shares(|figures| to_f64(figures.alive_ns)),
        runqueue_seconds: seconds(|figures| figures.runqueue_ns),
        voluntary_switches: sum(|figures| figures.voluntary),
        involuntary_switches: sum(|figures| figures.involuntary),
        minor_faults: sum(|figures| figures.minor),
        major_faults: sum(|figures| figures.major),
        threads: u32::try_from(total(|figures| figures.threads_now)).unwrap_or(u32::MAX),
        last_time_ms: figures().map(|figures| figures.last_seen_ms).max().unwrap_or(0),
        rss_bytes: (!kernel_only).then(|| sum(|figures| figures.rss_now).unwrap_or(0)),
        user_cpu_seconds: seconds(|figures| figures.user_ns),
        system_cpu_seconds: seconds(|figures| figures.system_ns),
        runqueue_waits: sum(|figures| figures.waits),
        read_bytes: sum(|figures| figures.bytes_read),
        written_bytes: sum(|figures| figures.bytes_written),
        read_operations: sum(|figures| figures.reads),
        write_operations: sum(|figures| figures.writes),
        disk_read_bytes: sum(|figures| figures.disk_read),
        disk_written_bytes: sum(|figures| figures.disk_written),
        rss_anon_bytes: sum(|figures| figures.rss_anon_now),
        rss_file_bytes: sum(|figures| figures.rss_file_now),
        rss_shmem_bytes: sum(|figures| figures.rss_shmem_now),
        swap_bytes: sum(|figures| figures.swap_now),
        virtual_bytes: sum(|figures| figures.virtual_now),
        peak_open_file_descriptors: sum(|figures| figures.peak_descriptors),
        source: source.reduce(|all, one| mixed(all, &one)).unwrap_or_default(),
        ended_threads_cpu_seconds: seconds(|figures| figures.ended_threads_ns),
        runqueue_wait_counts,
        // A group has none of what only a process has.
        ..TopRow::default()
    }
}
