//! What the collector thinks in: agents, snapshots and what they hold. Nothing here knows a wire or a store.

use std::{collections::BTreeSet, fmt, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

/// Nanoseconds in a millisecond.
pub const NS_PER_MS: i64 = 1_000_000;

/// Milliseconds in a day; a day is a partition of every table of samples.
pub const MS_PER_DAY: i64 = 86_400_000;

/// 2106-01-01: where the store's 32-bit seconds, by which rows expire, come to their end. No row has a later time.
pub const TIME_MS_MAX: i64 = 4_291_747_200_000;

/// One life of an agent: each start, and each epoch that its spool still holds, has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentEpoch {
    /// Identity of the agent.
    pub agent_id: Uuid,
    /// Random, never 0.
    pub epoch: u64,
}

impl fmt::Display for AgentEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agent {} epoch {}", self.agent_id, self.epoch)
    }
}

/// Everything one host did in one interval, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Who measured.
    pub agent: AgentEpoch,
    /// Number within the epoch, from 1 without gaps.
    pub seq: u64,
    /// Name of the host.
    pub host: Arc<str>,
    /// Boot id of the kernel.
    pub boot_id: Uuid,
    /// End of the interval by the wall clock of the host, in milliseconds since 1970.
    pub time_ms: i64,
    /// Length of the interval, in nanoseconds. Never 0.
    pub interval_ns: u64,
    /// How it was measured.
    pub source: Source,
    /// One for each process alive in the interval.
    pub samples: Vec<ProcessSample>,
    /// One for each process that ended in the interval.
    pub exits: Vec<ProcessExit>,
    /// Descriptions of processes.
    pub processes: Vec<ProcessInfo>,
    /// Where the CPU time went; `None` when the agent did not say.
    pub audit: Option<HostAudit>,
    /// What the machine is; `None` when the agent did not say.
    pub host_info: Option<HostInfo>,
    /// What was lost, count by reason; reasons are unique.
    pub losses: Vec<(String, u64)>,
    /// What measuring cost; `None` when the agent did not say.
    pub agent_cost: Option<AgentCost>,
    /// When it arrived, by the clock of the collector, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// The bytes it was decoded from, kept for the case that the store refuses it for good.
    pub encoded: Bytes,
}

impl Snapshot {
    /// Rows it makes in all tables.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.samples.len() + self.exits.len() + self.processes.len() + 1
    }

    /// All ways in which its rows were measured, each once.
    #[must_use]
    pub fn sources(&self) -> Vec<&'static str> {
        let of_rows = self.samples.iter().map(|sample| sample.source);
        let of_rows = of_rows.chain(self.exits.iter().map(|exit| exit.source)).flatten();
        let all = of_rows.chain([self.source]).map(Source::as_str);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Days since 1970 of its time: the partition it belongs to.
    #[must_use]
    pub fn day(&self) -> i64 {
        self.time_ms.div_euclid(MS_PER_DAY)
    }
}

/// Where figures came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Programs in the kernel: every process, exact.
    Ebpf,
    /// The same without the programs on hot paths: peaks as the kernel notes them.
    EbpfQuiet,
    /// Sampling of /proc.
    Proc,
}

impl Source {
    /// The word that stands in the store and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::EbpfQuiet => "ebpf_quiet",
            Self::Proc => "proc",
        }
    }
}

/// Who a process is; the same in a sample, an exit and a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// Identity for good, made once in the agent.
    pub process_id: Uuid,
    /// Rises by one at each exec.
    pub exec_generation: u32,
    /// The tgid in the host's pid namespace.
    pub pid: u32,
    /// The parent's tgid when the process was first seen.
    pub parent_pid: u32,
    /// Start, in nanoseconds since boot.
    pub start_boottime_ns: u64,
    /// Start by the wall clock, in milliseconds since 1970.
    pub start_time_ms: i64,
    /// Name of the command, escaped. Rows of one snapshot share their words.
    pub name: Arc<str>,
    /// Real user id.
    pub uid: u32,
    /// Container id, or empty.
    pub container_id: Arc<str>,
    /// UID of the pod, or empty.
    pub pod_uid: Arc<str>,
}

/// One process in one interval. Fields as in `procscope.v1.ProcessSample`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is documented in procscope/v1/ingest.proto, under the same name"
)]
pub struct ProcessSample {
    pub identity: ProcessIdentity,
    pub kernel_thread: bool,
    pub exited: bool,
    pub first_seen: bool,
    pub cpu_time_ns: u64,
    pub cpu_time_ns_delta: u64,
    pub rss_bytes: Option<u64>,
    pub peak_rss_bytes: Option<u64>,
    pub lifetime_peak_rss_bytes: Option<u64>,
    pub threads: u32,
    pub runqueue_ns_delta: Option<u64>,
    pub voluntary_switches_delta: Option<u64>,
    pub involuntary_switches_delta: Option<u64>,
    pub minor_faults_delta: Option<u64>,
    pub major_faults_delta: Option<u64>,
    /// `None`: as its snapshot was.
    pub source: Option<Source>,
    pub user_time_ns_delta: Option<u64>,
    pub system_time_ns_delta: Option<u64>,
    pub ended_threads_cpu_time_ns_delta: Option<u64>,
    pub runqueue_waits_delta: Option<u64>,
    pub runqueue_wait_counts: Vec<u64>,
    pub rss_anon_bytes: Option<u64>,
    pub rss_file_bytes: Option<u64>,
    pub rss_shmem_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub open_file_descriptors: Option<u32>,
    pub open_file_descriptor_limit: Option<u64>,
    pub read_bytes_delta: Option<u64>,
    pub written_bytes_delta: Option<u64>,
    pub read_operations_delta: Option<u64>,
    pub write_operations_delta: Option<u64>,
    pub disk_read_bytes_delta: Option<u64>,
    pub disk_written_bytes_delta: Option<u64>,
    /// A letter; empty when not known.
    pub state: &'static str,
    pub namespace_pid: Option<u32>,
    pub parent_start_boottime_ns: Option<u64>,
    pub cgroup_id: Option<u64>,
}

/// A process that ended. Fields as in `procscope.v1.ProcessExit`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is documented in procscope/v1/ingest.proto, under the same name"
)]
pub struct ProcessExit {
    pub identity: ProcessIdentity,
    pub end_time_ms: i64,
    pub exe: String,
    pub lifetime_ns: u64,
    pub cpu_time_ns: u64,
    pub peak_rss_bytes: Option<u64>,
    pub exit_code: Option<u32>,
    pub exit_signal: Option<u32>,
    pub oom_killed: Option<bool>,
    pub runqueue_ns: Option<u64>,
    pub voluntary_switches: Option<u64>,
    pub involuntary_switches: Option<u64>,
    pub minor_faults: Option<u64>,
    pub major_faults: Option<u64>,
    /// `None`: as its snapshot was.
    pub source: Option<Source>,
    pub user_time_ns: Option<u64>,
    pub system_time_ns: Option<u64>,
    pub runqueue_waits: Option<u64>,
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    pub read_operations: Option<u64>,
    pub write_operations: Option<u64>,
    pub disk_read_bytes: Option<u64>,
    pub disk_written_bytes: Option<u64>,
    pub namespace_pid: Option<u32>,
    pub parent_start_boottime_ns: Option<u64>,
}

/// What stays the same between two execs. Fields as in `procscope.v1.ProcessInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is documented in procscope/v1/ingest.proto, under the same name"
)]
pub struct ProcessInfo {
    pub identity: ProcessIdentity,
    pub exe: String,
    pub cmdline: String,
    pub cgroup: String,
    pub kernel_thread: bool,
}

/// Where the CPU time of a host went. Fields as in `procscope.v1.HostAudit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is documented in procscope/v1/ingest.proto, under the same name"
)]
pub struct HostAudit {
    pub cpus: u32,
    pub wall_ns: u64,
    pub process_ns: u64,
    pub kthread_ns: u64,
    pub idle_ns: u64,
    pub iowait_ns: Option<u64>,
    pub irq_ns: Option<u64>,
    pub softirq_ns: Option<u64>,
    pub steal_ns: Option<u64>,
    pub interrupts_in_tasks: bool,
    pub residual_ns: i64,
    pub lost_events: u64,
    pub torn_reads: u64,
}

/// What a machine is. Fields as in `procscope.v1.HostInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is documented in procscope/v1/ingest.proto, under the same name"
)]
pub struct HostInfo {
    pub agent_version: String,
    pub kernel_release: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_total_bytes: u64,
    pub memory_available_bytes: Option<u64>,
    pub processes: u32,
    pub threads: u32,
}

/// What measuring cost. Fields as in `procscope.v1.AgentCost`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is documented in procscope/v1/ingest.proto, under the same name"
)]
pub struct AgentCost {
    pub cpu_time_ns_delta: u64,
    pub rss_bytes: u64,
    pub drain_ns: u64,
    pub events: u64,
    pub queue_len: u64,
    pub programs: Vec<ProgramCost>,
    pub attach_ns: Option<u64>,
    pub kernel_ppm: Option<u64>,
    pub kernel_budget_ppm: Option<u64>,
}

/// What one program in the kernel cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name, that of the tracepoint.
    pub name: String,
    /// How often it ran.
    pub runs: u64,
    /// Its own time, in nanoseconds.
    pub run_ns: u64,
}

/// A range of time. Rows of intervals belong to it when their end lies in (start, end], so that adjacent
/// ranges never count a row twice and the last complete interval is inside; instants (an exit) belong to it
/// when they lie in [start, end).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// Milliseconds since 1970.
    pub start_ms: i64,
    /// Milliseconds since 1970, greater than `start_ms`.
    pub end_ms: i64,
}

impl TimeRange {
    /// Length in seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        ms_to_seconds(self.end_ms - self.start_ms)
    }
}

/// Milliseconds as seconds.
#[must_use]
pub fn ms_to_seconds(ms: i64) -> f64 {
    to_f64(u64::try_from(ms).unwrap_or(0)) / 1_000.0
}

/// Nanoseconds as seconds.
#[must_use]
pub fn ns_to_seconds(ns: u64) -> f64 {
    to_f64(ns) / 1e9
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// A count as a float, for percentages and means; exact up to 2^53.
#[must_use]
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the rounding is what is asked for"
)]
pub fn to_f64(count: u64) -> f64 {
    count as f64
}

/// Snapshots for the tests of this crate.
#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;

    /// 2026-11-22T05:00:00Z.
    pub(crate) const T0_MS: i64 = 1_795_323_600_000;

    /// A snapshot with one process, `seq` seconds after `T0_MS`.
    pub(crate) fn snapshot(seq: u64) -> Snapshot {
        Snapshot {
            agent: AgentEpoch {
                agent_id: Uuid::from_u128(7),
                epoch: 11,
            },
            seq,
            host: "db1".into(),
            boot_id: Uuid::from_u128(1),
            time_ms: T0_MS + i64::try_from(seq).unwrap() * 1_000,
            interval_ns: 1_000_000_000,
            source: Source::Ebpf,
            samples: vec![sample("nginx")],
            exits: Vec::new(),
            processes: Vec::new(),
            audit: None,
            host_info: None,
            losses: vec![("ring_full".to_owned(), 5)],
            agent_cost: None,
            received_at_ms: T0_MS,
            encoded: Bytes::new(),
        }
    }

    /// A process that used half a CPU for a second.
    pub(crate) fn sample(name: &str) -> ProcessSample {
        ProcessSample {
            identity: ProcessIdentity {
                process_id: Uuid::from_u128(42),
                exec_generation: 0,
                pid: 42,
                parent_pid: 1,
                start_boottime_ns: 5,
                start_time_ms: T0_MS,
                name: name.into(),
                uid: 0,
                container_id: "".into(),
                pod_uid: "".into(),
            },
            kernel_thread: false,
            exited: false,
            first_seen: false,
            cpu_time_ns: 1_000_000_000,
            cpu_time_ns_delta: 500_000_000,
            rss_bytes: Some(1 << 20),
            peak_rss_bytes: Some(2 << 20),
            lifetime_peak_rss_bytes: None,
            threads: 1,
            runqueue_ns_delta: None,
            voluntary_switches_delta: None,
            involuntary_switches_delta: None,
            minor_faults_delta: None,
            major_faults_delta: None,
            source: None,
            user_time_ns_delta: None,
            system_time_ns_delta: None,
            ended_threads_cpu_time_ns_delta: None,
            runqueue_waits_delta: None,
            runqueue_wait_counts: Vec::new(),
            rss_anon_bytes: None,
            rss_file_bytes: None,
            rss_shmem_bytes: None,
            swap_bytes: None,
            virtual_bytes: None,
            open_file_descriptors: None,
            open_file_descriptor_limit: None,
            read_bytes_delta: None,
            written_bytes_delta: None,
            read_operations_delta: None,
            write_operations_delta: None,
            disk_read_bytes_delta: None,
            disk_written_bytes_delta: None,
            state: "",
            namespace_pid: None,
            parent_start_boottime_ns: None,
            cgroup_id: None,
        }
    }
}
