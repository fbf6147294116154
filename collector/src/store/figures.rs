//! What a process used, as sums that can be added up and are not yet divided by what its host observed.

use clickhouse::Row;
use serde::Deserialize;

use super::answers::TopRow;
use crate::model::{ns_to_seconds, to_f64};

/// What rows of more than one kind of measurement are said to come from.
const MIXED: &str = "mixed";

/// Bytes of a megabyte, as the contract counts them.
pub(super) const MB: f64 = 1_048_576.0;

/// Adds sums of parts: what is known of one only is what is known.
pub(super) fn add_all<const N: usize>(sums: [(&mut Option<u64>, Option<u64>); N]) {
    for (sum, more) in sums {
        *sum = match (*sum, more) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            (sum, more) => sum.or(more),
        };
    }
}

/// Adds counts by their place.
pub(super) fn add(counts: &mut Vec<u64>, more: &[u64]) {
    counts.resize(counts.len().max(more.len()), 0);
    for (count, more) in counts.iter_mut().zip(more) {
        *count = count.saturating_add(*more);
    }
}

/// How both were measured.
pub(super) fn mixed(one: String, other: &str) -> String {
    if one == other { one } else { MIXED.to_owned() }
}

/// Bytes x nanoseconds as a float: they have more digits than are shown.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the rounding is what is asked for"
)]
pub(super) fn bytes_ns(product: u128) -> f64 {
    product as f64
}

/// What is known of a process in a part of a range.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/top_process_figures.sql")]
pub struct ProcessFigures {
    pub ran_on: String,
    pub id: String,
    pub last_seen_ms: i64,
    pub last_name: String,
    pub last_pid: u32,
    pub last_parent_pid: u32,
    pub last_start_time_ms: i64,
    pub last_uid: u32,
    pub last_container_id: String,
    pub last_pod_uid: String,
    pub is_kernel_thread: bool,
    pub last_cpu_time_ns: u64,
    pub last_threads: u32,
    pub last_state: String,
    pub last_start_boottime_ns: u64,
    pub last_exec_generation: u32,
    pub last_rss_bytes: Option<u64>,
    pub last_rss_anon_bytes: Option<u64>,
    pub last_rss_file_bytes: Option<u64>,
    pub last_rss_shmem_bytes: Option<u64>,
    pub last_swap_bytes: Option<u64>,
    pub last_virtual_bytes: Option<u64>,
    pub last_descriptor_limit: Option<u64>,
    pub last_namespace_pid: Option<u32>,
    pub last_parent_start: Option<u64>,
    pub last_cgroup_id: Option<u64>,
    pub lifetime_peak_generation: u32,
    pub lifetime_peak: Option<u64>,
    pub has_exited: bool,
    pub peak_bytes: Option<u64>,
    pub peak_descriptors: Option<u32>,
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
    pub wait_counts: Vec<u64>,
    pub measured: String,
}

impl ProcessFigures {
    /// Both parts of the range as one: sums are added, and of an instant the later part tells.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (mut sum, earlier) = if self.last_seen_ms >= other.last_seen_ms {
            (self, other)
        } else {
            (other, self)
        };
        let lifetime_peak = |of: &Self| of.lifetime_peak.map(|peak| (of.lifetime_peak_generation, peak));
        if lifetime_peak(&sum) < lifetime_peak(&earlier) {
            sum.lifetime_peak = earlier.lifetime_peak;
            sum.lifetime_peak_generation = earlier.lifetime_peak_generation;
        }
        sum.has_exited |= earlier.has_exited;
        sum.peak_bytes = sum.peak_bytes.max(earlier.peak_bytes);
        sum.peak_descriptors = sum.peak_descriptors.max(earlier.peak_descriptors);
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
        sum.measured = mixed(sum.measured, &earlier.measured);
        sum
    }

    /// Bytes that they take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let waits = self.wait_counts.len() * size_of::<u64>();
        size_of::<Self>() + 512 + waits
    }

    /// As a row of a top, of a host that observed so much.
    #[must_use]
    pub fn row(self, observed_ns: u64) -> TopRow {
        let observed_ns = to_f64(observed_ns);
        let seconds = |ns: Option<u64>| ns.map(ns_to_seconds);
        TopRow {
            name: self.last_name,
            member_hosts: vec![self.ran_on],
            process_id: Some(self.id),
            pid: Some(self.last_pid),
            parent_pid: Some(self.last_parent_pid),
            start_time_ms: Some(self.last_start_time_ms),
            uid: Some(self.last_uid),
            container_id: Some(self.last_container_id),
            pod_uid: Some(self.last_pod_uid),
            kernel_thread: Some(self.is_kernel_thread),
            exited: Some(self.has_exited),
            cpu_time_ns: Some(self.last_cpu_time_ns),
            open_file_descriptor_limit: self.last_descriptor_limit,
            state: Some(self.last_state).filter(|state| !state.is_empty()),
            namespace_pid: self.last_namespace_pid,
            avg_cpu_percent: to_f64(self.cpu_ns) / observed_ns * 100.0,
            cpu_seconds: ns_to_seconds(self.cpu_ns),
            avg_memory_mb: (!self.is_kernel_thread).then(|| bytes_ns(self.rss_byte_ns) / observed_ns / MB),
            peak_memory_mb: self.peak_bytes.map(|bytes| to_f64(bytes) / MB),
            avg_num_procs: to_f64(self.alive_ns) / observed_ns,
            runqueue_seconds: seconds(self.runqueue_ns),
            voluntary_switches: self.voluntary,
            involuntary_switches: self.involuntary,
            minor_faults: self.minor,
            major_faults: self.major,
            threads: self.last_threads,
            last_time_ms: self.last_seen_ms,
            rss_bytes: self.last_rss_bytes,
            user_cpu_seconds: seconds(self.user_ns),
            system_cpu_seconds: seconds(self.system_ns),
            runqueue_waits: self.waits,
            read_bytes: self.bytes_read,
            written_bytes: self.bytes_written,
            read_operations: self.reads,
            write_operations: self.writes,
            disk_read_bytes: self.disk_read,
            disk_written_bytes: self.disk_written,
            rss_anon_bytes: self.last_rss_anon_bytes,
            rss_file_bytes: self.last_rss_file_bytes,
            rss_shmem_bytes: self.last_rss_shmem_bytes,
            swap_bytes: self.last_swap_bytes,
            virtual_bytes: self.last_virtual_bytes,
            peak_open_file_descriptors: self.peak_descriptors.map(u64::from),
            source: self.measured,
            // Looked up for those that are shown.
            boot_id: None,
            start_boottime_ns: Some(self.last_start_boottime_ns),
            exec_generation: Some(self.last_exec_generation),
            parent_start_boottime_ns: self.last_parent_start,
            cgroup_id: self.last_cgroup_id,
            lifetime_peak_rss_bytes: self.lifetime_peak,
            ended_threads_cpu_seconds: seconds(self.ended_threads_ns),
            runqueue_wait_counts: self.wait_counts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(last_seen_ms: i64) -> ProcessFigures {
        ProcessFigures {
            ran_on: "h".to_owned(),
            id: "p".to_owned(),
            last_seen_ms,
            last_name: format!("at {last_seen_ms}"),
            last_pid: 1,
            last_parent_pid: 1,
            last_start_time_ms: 1,
            last_uid: 0,
            last_container_id: String::new(),
            last_pod_uid: String::new(),
            is_kernel_thread: false,
            last_cpu_time_ns: 0,
            last_threads: 1,
            last_state: String::new(),
            last_start_boottime_ns: 1,
            last_exec_generation: 0,
            last_rss_bytes: None,
            last_rss_anon_bytes: None,
            last_rss_file_bytes: None,
            last_rss_shmem_bytes: None,
            last_swap_bytes: None,
            last_virtual_bytes: None,
            last_descriptor_limit: None,
            last_namespace_pid: None,
            last_parent_start: None,
            last_cgroup_id: None,
            lifetime_peak_generation: 0,
            lifetime_peak: None,
            has_exited: false,
            peak_bytes: None,
            peak_descriptors: None,
            cpu_ns: 1_000_000_000,
            rss_byte_ns: 5,
            alive_ns: 7,
            runqueue_ns: None,
            voluntary: None,
            involuntary: None,
            minor: None,
            major: None,
            user_ns: None,
            system_ns: None,
            waits: None,
            bytes_read: None,
            bytes_written: None,
            reads: None,
            writes: None,
            disk_read: None,
            disk_written: None,
            ended_threads_ns: None,
            wait_counts: Vec::new(),
            measured: "ebpf".to_owned(),
        }
    }

    #[test]
    fn parts_of_a_range_are_added_and_the_later_tells_of_the_end() {
        let early = ProcessFigures {
            last_rss_bytes: Some(9),
            lifetime_peak_generation: 2,
            lifetime_peak: Some(10),
            peak_bytes: Some(3),
            minor: Some(4),
            wait_counts: vec![1, 2, 3],
            ..part(1_000)
        };
        let late = ProcessFigures {
            lifetime_peak_generation: 1,
            lifetime_peak: Some(20),
            has_exited: true,
            major: Some(6),
            wait_counts: vec![5],
            measured: "proc".to_owned(),
            ..part(2_000)
        };
        let sum = early.clone().and(late.clone());
        assert_eq!(sum, late.and(early));
        // What is not known at the end is not what was known before.
        assert_eq!((sum.last_name.as_str(), sum.last_rss_bytes), ("at 2000", None));
        assert_eq!(
            (sum.cpu_ns, sum.rss_byte_ns, sum.alive_ns),
            (2_000_000_000, 10, 14)
        );
        assert_eq!((sum.minor, sum.major, sum.voluntary), (Some(4), Some(6), None));
        assert_eq!((sum.peak_bytes, sum.has_exited), (Some(3), true));
        // Of a later exec, though it was less.
        assert_eq!(sum.lifetime_peak, Some(10));
        assert_eq!(
            (sum.wait_counts.as_slice(), sum.measured.as_str()),
            (&[6, 2, 3][..], "mixed")
        );
        let row = sum.row(4_000_000_000);
        assert_eq!(
            (row.avg_cpu_percent, row.cpu_seconds, row.state),
            (50.0, 2.0, None)
        );
    }
}
