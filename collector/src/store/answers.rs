//! What the questions in `queries/` are answered with: one row type each, its fields in the order of the columns.

use clickhouse::Row;
use serde::Deserialize;

/// The newest interval of a host.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/newest_per_host.sql")]
pub struct NewestRow {
    pub host: String,
    pub newest_ms: i64,
    pub newest_interval_ns: u64,
}

/// The end of one interval and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/interval_ends.sql")]
pub struct IntervalRow {
    pub time_ms: i64,
    pub interval_ns: u64,
}

/// What one host observed of a range.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/coverage.sql")]
pub struct CoverageRow {
    pub host: String,
    pub first_ms: i64,
    pub newest_ms: i64,
    pub observed_ns: u64,
    pub usual_interval_ns: u64,
    pub loss_reasons: Vec<String>,
    pub loss_counts: Vec<u64>,
    pub all_sources: Vec<String>,
}

impl CoverageRow {
    /// Adds what the same host observed of another part of the range.
    pub fn add(&mut self, other: &Self) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.newest_ms = self.newest_ms.max(other.newest_ms);
        self.observed_ns = self.observed_ns.saturating_add(other.observed_ns);
        for (reason, count) in other.loss_reasons.iter().zip(&other.loss_counts) {
            if let Some(place) = self.loss_reasons.iter().position(|known| known == reason) {
                self.loss_counts[place] = self.loss_counts[place].saturating_add(*count);
            } else {
                self.loss_reasons.push(reason.clone());
                self.loss_counts.push(*count);
            }
        }
        for source in &other.all_sources {
            if !self.all_sources.contains(source) {
                self.all_sources.push(source.clone());
            }
        }
    }

    /// Bytes that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = self.loss_reasons.len() + self.all_sources.len();
        size_of::<Self>() + self.host.len() + texts * 40
    }
}

/// A process or a group over a range. A group has none of what stands between its hosts and its CPU, nor of what
/// stands between its source and the CPU of threads that ended.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the words of the contract")]
pub struct TopRow {
    pub name: String,
    pub member_hosts: Vec<String>,
    pub process_id: Option<String>,
    pub pid: Option<u32>,
    pub parent_pid: Option<u32>,
    pub start_time_ms: Option<i64>,
    pub uid: Option<u32>,
    pub container_id: Option<String>,
    pub pod_uid: Option<String>,
    pub kernel_thread: Option<bool>,
    pub exited: Option<bool>,
    pub cpu_time_ns: Option<u64>,
    pub open_file_descriptor_limit: Option<u64>,
    pub state: Option<String>,
    pub namespace_pid: Option<u32>,
    pub avg_cpu_percent: f64,
    pub cpu_seconds: f64,
    pub avg_memory_mb: Option<f64>,
    pub peak_memory_mb: Option<f64>,
    pub avg_num_procs: f64,
    pub runqueue_seconds: Option<f64>,
    pub voluntary_switches: Option<u64>,
    pub involuntary_switches: Option<u64>,
    pub minor_faults: Option<u64>,
    pub major_faults: Option<u64>,
    pub threads: u32,
    pub last_time_ms: i64,
    pub rss_bytes: Option<u64>,
    pub user_cpu_seconds: Option<f64>,
    pub system_cpu_seconds: Option<f64>,
    pub runqueue_waits: Option<u64>,
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    pub read_operations: Option<u64>,
    pub write_operations: Option<u64>,
    pub disk_read_bytes: Option<u64>,
    pub disk_written_bytes: Option<u64>,
    pub rss_anon_bytes: Option<u64>,
    pub rss_file_bytes: Option<u64>,
    pub rss_shmem_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub peak_open_file_descriptors: Option<u64>,
    pub source: String,
    pub boot_id: Option<String>,
    pub start_boottime_ns: Option<u64>,
    pub exec_generation: Option<u32>,
    pub parent_start_boottime_ns: Option<u64>,
    pub cgroup_id: Option<u64>,
    pub lifetime_peak_rss_bytes: Option<u64>,
    pub ended_threads_cpu_seconds: Option<f64>,
    pub runqueue_wait_counts: Vec<u64>,
}

impl TopRow {
    /// Bytes that it takes, with what it was started as, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let hosts: usize = self
            .member_hosts
            .iter()
            .map(|host| size_of::<String>() + host.len())
            .sum();
        size_of::<Self>() + size_of::<InfoRow>() + 1_024 + hosts
    }
}

/// Who stands in a top.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/top_winning_*.sql")]
pub struct WinnerRow {
    pub id: String,
    pub member_hosts: Vec<String>,
}

/// What a process used of the figure that ranks.
#[derive(Debug, Clone, PartialEq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/top_ranked_processes.sql")]
pub struct RankRow {
    pub id: String,
    pub ran_on: String,
    pub score: f64,
    pub cpu_ns: f64,
    pub observed_ns: f64,
}

impl RankRow {
    /// Bytes that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.ran_on.len()
    }
}

/// What a group used on a host of the figure that ranks.
#[derive(Debug, Clone, PartialEq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/top_ranked_groups.sql")]
pub struct GroupRankRow {
    pub ran_on: String,
    pub member_of: String,
    pub score: f64,
    pub cpu_ns: f64,
}

impl GroupRankRow {
    /// Bytes that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.member_of.len() + self.ran_on.len()
    }
}

/// The peaks of everything that matches on a host.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/top_peaks_instants.sql")]
pub struct InstantPeakRow {
    pub ran_on: String,
    pub peak_bytes: Option<u64>,
    pub peak_descriptors: Option<u64>,
}

/// The boot of a host at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/boot_ids.sql")]
pub struct BootRow {
    pub host: String,
    pub time_ms: i64,
    pub boot_id: String,
}

/// What a process was started as.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/process_infos.sql")]
pub struct InfoRow {
    pub id: String,
    pub exe: String,
    pub cmdline: String,
}

/// Who a process is, and where it ran.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/process_identity.sql")]
pub struct IdentityRow {
    pub ran_on: String,
    pub command: String,
    pub pid: u32,
    pub parent_pid: u32,
    pub start_boottime_ns: u64,
    pub start_time_ms: i64,
    pub parent_start_boottime_ns: Option<u64>,
    pub boot: Option<String>,
}

/// One step of a history.
#[derive(Debug, Clone, PartialEq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/history.sql")]
pub struct StepRow {
    pub step: u64,
    pub seen: u8,
    pub avg_cpu_percent: f64,
    pub cpu_seconds: f64,
    pub avg_memory_mb: Option<f64>,
    pub peak_memory_mb: Option<f64>,
    pub avg_num_procs: f64,
    pub runqueue_seconds: Option<f64>,
    pub threads: Option<u32>,
    pub cpu_time_ns: Option<u64>,
    pub avg_user_percent: Option<f64>,
    pub avg_system_percent: Option<f64>,
    pub runqueue_waits: Option<u64>,
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    pub read_operations: Option<u64>,
    pub write_operations: Option<u64>,
    pub disk_read_bytes: Option<u64>,
    pub disk_written_bytes: Option<u64>,
    pub peak_open_file_descriptors: Option<u64>,
    pub exec_generation: Option<u32>,
    pub cgroup_id: Option<u64>,
    pub lifetime_peak_rss_bytes: Option<u64>,
    pub ended_threads_cpu_seconds: Option<f64>,
    pub runqueue_wait_counts: Vec<u64>,
}

/// A process that ended.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/exits.sql")]
pub struct ExitRow {
    pub id: String,
    pub exec_generation: u32,
    pub host_name: String,
    pub command: String,
    pub pid: u32,
    pub parent_pid: u32,
    pub uid: u32,
    pub start_time_ms: i64,
    pub end_time_ms: i64,
    pub lifetime_ns: u64,
    pub cpu_time_ns: u64,
    pub peak_rss_bytes: Option<u64>,
    pub exit_code: Option<u32>,
    pub exit_signal: Option<u32>,
    pub oom_killed: Option<bool>,
    pub container: String,
    pub pod: String,
    pub runqueue_ns: Option<u64>,
    pub voluntary_switches: Option<u64>,
    pub involuntary_switches: Option<u64>,
    pub minor_faults: Option<u64>,
    pub major_faults: Option<u64>,
    pub exe: String,
    pub measured: String,
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
    pub boot: Option<String>,
    pub start_boottime_ns: u64,
    pub parent_start_boottime_ns: Option<u64>,
}

/// A host as its newest snapshot describes it.
#[derive(Debug, Clone, PartialEq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/hosts.sql")]
pub struct HostRow {
    pub name: String,
    pub newest_agent_id: String,
    pub last_seen_ms: i64,
    pub newest_interval_ns: u64,
    pub newest_agent_version: String,
    pub newest_kernel_release: String,
    pub newest_architecture: String,
    pub newest_cpus: Option<u32>,
    pub newest_memory_total_bytes: Option<u64>,
    pub newest_memory_available_bytes: Option<u64>,
    pub newest_processes: Option<u32>,
    pub newest_threads: Option<u32>,
    pub newest_cpu_percent: Option<f64>,
    pub agents: u64,
    pub agent_cpu_percent: Option<f64>,
    pub newest_agent_rss_bytes: Option<u64>,
}

/// Where the CPU time of a host went.
#[derive(Debug, Clone, PartialEq, Row, Deserialize)]
#[expect(missing_docs, reason = "columns of queries/audit.sql")]
pub struct AuditRow {
    pub name: String,
    pub newest_cpus: Option<u32>,
    pub sum_wall_ns: Option<u64>,
    pub sum_process_ns: Option<u64>,
    pub sum_kthread_ns: Option<u64>,
    pub sum_idle_ns: Option<u64>,
    pub sum_iowait_ns: Option<u64>,
    pub sum_irq_ns: Option<u64>,
    pub sum_softirq_ns: Option<u64>,
    pub sum_steal_ns: Option<u64>,
    pub any_interrupts_in_tasks: Option<bool>,
    pub sum_residual_ns: Option<i64>,
    pub sum_lost_events: Option<u64>,
    pub sum_torn_reads: Option<u64>,
    pub snapshots: u64,
    pub mean_kernel_ppm: Option<f64>,
    pub last_kernel_budget_ppm: Option<u64>,
    pub last_attach_ns: Option<u64>,
    pub names: Vec<String>,
    pub runs: Vec<u64>,
    pub run_ns: Vec<u64>,
    pub agent_cpu_time_ns: Option<u64>,
    pub agent_cpu_percent: Option<f64>,
    pub agent_peak_rss_bytes: Option<u64>,
    pub agent_avg_drain_ns: Option<f64>,
    pub agent_longest_drain_ns: Option<u64>,
    pub sum_agent_events: Option<u64>,
}
