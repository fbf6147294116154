//! One table each: its columns and its sort key. The names are those of `schema/`.

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use uuid::Uuid;

use crate::{
    model::{AgentCost, HostAudit, HostInfo, ProcessExit, ProcessInfo, ProcessSample, ProgramCost, Snapshot},
    store::native::{Column, column_of},
};

/// A table that snapshots are written to, in the order of writing: a snapshot with a row in the last is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// One row a process and interval.
    ProcessSamples,
    /// One row a process that ended.
    ProcessExits,
    /// Descriptions of processes.
    Processes,
    /// One row a snapshot, always.
    HostSamples,
}

impl Table {
    /// All tables, in the order of writing.
    pub const ALL: [Self; 4] = [
        Self::ProcessSamples,
        Self::ProcessExits,
        Self::Processes,
        Self::HostSamples,
    ];

    /// Name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ProcessSamples => "process_samples",
            Self::ProcessExits => "process_exits",
            Self::Processes => "processes",
            Self::HostSamples => "host_samples",
        }
    }

    /// How many rows of it a snapshot has.
    pub(crate) fn rows_of(self, snapshot: &Snapshot) -> usize {
        match self {
            Self::ProcessSamples => snapshot.samples.len(),
            Self::ProcessExits => snapshot.exits.len(),
            Self::Processes => snapshot.processes.len(),
            Self::HostSamples => 1,
        }
    }
}

/// A column: its name, its type and how it is read; without the last it is the row's field of that name.
macro_rules! column {
    ($name:ident, $kind:ident) => {
        column!($name, $kind, |_, row| row.$name)
    };
    ($name:ident, $kind:ident, $get:expr) => {
        column_of!(stringify!($name), $kind, $get)
    };
}

/// The columns that name snapshot and process; each row type has an `identity`.
macro_rules! with_identity {
    ($($column:expr),* $(,)?) => {
        &[
            column!(agent_id, Uuid, |s, _| s.agent.agent_id),
            column!(epoch, U64, |s, _| s.agent.epoch),
            column!(seq, U64, |s, _| s.seq),
            column!(host, Word, |s, _| &s.host),
            column!(time, Time, |s, _| s.time_ms),
            column!(received_at, Time, |s, _| s.received_at_ms),
            column!(process_id, Uuid, |_, r| r.identity.process_id),
            column!(exec_generation, U32, |_, r| r.identity.exec_generation),
            column!(pid, U32, |_, r| r.identity.pid),
            column!(parent_pid, U32, |_, r| r.identity.parent_pid),
            column!(start_boottime_ns, U64, |_, r| r.identity.start_boottime_ns),
            column!(start_time, Time, |_, r| r.identity.start_time_ms),
            column!(name, Word, |_, r| &r.identity.name),
            column!(uid, U32, |_, r| r.identity.uid),
            column!(container_id, Word, |_, r| &r.identity.container_id),
            column!(pod_uid, Word, |_, r| &r.identity.pod_uid),
            $($column),*
        ]
    };
}

pub(crate) static PROCESS_SAMPLES: &[Column<ProcessSample>] = with_identity![
    column!(interval_ns, U64, |s, _| s.interval_ns),
    column!(kernel_thread, Bool),
    column!(exited, Bool),
    column!(first_seen, Bool),
    column!(cpu_time_ns, U64),
    column!(cpu_time_ns_delta, U64),
    column!(rss_bytes, MaybeU64),
    column!(peak_rss_bytes, MaybeU64),
    column!(lifetime_peak_rss_bytes, MaybeU64),
    column!(threads, U32),
    column!(runqueue_ns_delta, MaybeU64),
    column!(voluntary_switches_delta, MaybeU64),
    column!(involuntary_switches_delta, MaybeU64),
    column!(minor_faults_delta, MaybeU64),
    column!(major_faults_delta, MaybeU64),
    column!(source, Word, |s, r| r.source.unwrap_or(s.source).as_str()),
    column!(user_time_ns_delta, MaybeU64),
    column!(system_time_ns_delta, MaybeU64),
    column!(ended_threads_cpu_time_ns_delta, MaybeU64),
    column!(runqueue_waits_delta, MaybeU64),
    column!(runqueue_wait_counts, Numbers, |_, r| Cow::Borrowed(
        &r.runqueue_wait_counts
    )),
    column!(rss_anon_bytes, MaybeU64),
    column!(rss_file_bytes, MaybeU64),
    column!(rss_shmem_bytes, MaybeU64),
    column!(swap_bytes, MaybeU64),
    column!(virtual_bytes, MaybeU64),
    column!(open_file_descriptors, MaybeU32),
    column!(open_file_descriptor_limit, MaybeU64),
    column!(read_bytes_delta, MaybeU64),
    column!(written_bytes_delta, MaybeU64),
    column!(read_operations_delta, MaybeU64),
    column!(write_operations_delta, MaybeU64),
    column!(disk_read_bytes_delta, MaybeU64),
    column!(disk_written_bytes_delta, MaybeU64),
    column!(state, Word, |_, r| r.state),
    column!(namespace_pid, MaybeU32),
    column!(parent_start_boottime_ns, MaybeU64),
    column!(cgroup_id, MaybeU64),
];

pub(crate) static PROCESS_EXITS: &[Column<ProcessExit>] = with_identity![
    column!(end_time, Time, |_, r| r.end_time_ms),
    column!(exe, Text, |_, r| r.exe.as_bytes()),
    column!(lifetime_ns, U64),
    column!(cpu_time_ns, U64),
    column!(peak_rss_bytes, MaybeU64),
    column!(exit_code, MaybeU32),
    column!(exit_signal, MaybeU32),
    column!(oom_killed, MaybeBool),
    column!(runqueue_ns, MaybeU64),
    column!(voluntary_switches, MaybeU64),
    column!(involuntary_switches, MaybeU64),
    column!(minor_faults, MaybeU64),
    column!(major_faults, MaybeU64),
    column!(source, Word, |s, r| r.source.unwrap_or(s.source).as_str()),
    column!(user_time_ns, MaybeU64),
    column!(system_time_ns, MaybeU64),
    column!(runqueue_waits, MaybeU64),
    column!(read_bytes, MaybeU64),
    column!(written_bytes, MaybeU64),
    column!(read_operations, MaybeU64),
    column!(write_operations, MaybeU64),
    column!(disk_read_bytes, MaybeU64),
    column!(disk_written_bytes, MaybeU64),
    column!(namespace_pid, MaybeU32),
    column!(parent_start_boottime_ns, MaybeU64),
];

pub(crate) static PROCESSES: &[Column<ProcessInfo>] = with_identity![
    column!(exe, Text, |_, r| r.exe.as_bytes()),
    column!(cmdline, Text, |_, r| r.cmdline.as_bytes()),
    column!(cgroup, Text, |_, r| r.cgroup.as_bytes()),
    column!(kernel_thread, Bool),
];

/// Reads a field of the audit, `None` when there was none.
macro_rules! audit {
    ($name:ident, $kind:ident, $get:expr) => {
        column!($name, $kind, |s, ()| s.audit.as_ref().and_then($get))
    };
}

/// Reads a field of the host's description, `None` when there was none.
macro_rules! info {
    ($name:ident, $kind:ident, $get:expr) => {
        column!($name, $kind, |s, ()| s.host_info.as_ref().and_then($get))
    };
}

/// Reads a field of what measuring cost, `None` when nobody told.
macro_rules! cost {
    ($name:ident, $get:expr) => {
        column!($name, MaybeU64, |s, ()| s.agent_cost.as_ref().and_then($get))
    };
}

fn programs(snapshot: &Snapshot) -> impl Iterator<Item = &ProgramCost> {
    snapshot.agent_cost.iter().flat_map(|cost| &cost.programs)
}

/// One row a snapshot: the row itself is empty, everything stands in the snapshot.
pub(crate) static HOST_SAMPLES: &[Column<()>] = &[
    column!(agent_id, Uuid, |s, ()| s.agent.agent_id),
    column!(epoch, U64, |s, ()| s.agent.epoch),
    column!(seq, U64, |s, ()| s.seq),
    column!(host, Word, |s, ()| &s.host),
    column!(boot_id, Uuid, |s, ()| s.boot_id),
    column!(time, Time, |s, ()| s.time_ms),
    column!(received_at, Time, |s, ()| s.received_at_ms),
    column!(interval_ns, U64, |s, ()| s.interval_ns),
    column!(source, Word, |s, ()| s.source.as_str()),
    column!(samples, U32, |s, ()| u32::try_from(s.samples.len())
        .unwrap_or(u32::MAX)),
    column!(exits, U32, |s, ()| u32::try_from(s.exits.len())
        .unwrap_or(u32::MAX)),
    column!(cpus, MaybeU32, |s, ()| s
        .audit
        .map(|a| a.cpus)
        .or(s.host_info.as_ref().map(|h| h.cpus))),
    audit!(wall_ns, MaybeU64, |a: &HostAudit| Some(a.wall_ns)),
    audit!(process_ns, MaybeU64, |a: &HostAudit| Some(a.process_ns)),
    audit!(kthread_ns, MaybeU64, |a: &HostAudit| Some(a.kthread_ns)),
    audit!(idle_ns, MaybeU64, |a: &HostAudit| Some(a.idle_ns)),
    audit!(iowait_ns, MaybeU64, |a: &HostAudit| a.iowait_ns),
    audit!(irq_ns, MaybeU64, |a: &HostAudit| a.irq_ns),
    audit!(softirq_ns, MaybeU64, |a: &HostAudit| a.softirq_ns),
    audit!(steal_ns, MaybeU64, |a: &HostAudit| a.steal_ns),
    audit!(interrupts_in_tasks, MaybeBool, |a: &HostAudit| Some(
        a.interrupts_in_tasks
    )),
    audit!(residual_ns, MaybeI64, |a: &HostAudit| Some(a.residual_ns)),
    audit!(lost_events, MaybeU64, |a: &HostAudit| Some(a.lost_events)),
    audit!(torn_reads, MaybeU64, |a: &HostAudit| Some(a.torn_reads)),
    column!(agent_version, Word, |s, ()| s
        .host_info
        .as_ref()
        .map_or("", |h| &h.agent_version)),
    column!(kernel_release, Word, |s, ()| s
        .host_info
        .as_ref()
        .map_or("", |h| &h.kernel_release)),
    column!(architecture, Word, |s, ()| s
        .host_info
        .as_ref()
        .map_or("", |h| &h.architecture)),
    info!(memory_total_bytes, MaybeU64, |h: &HostInfo| Some(
        h.memory_total_bytes
    )),
    info!(memory_available_bytes, MaybeU64, |h: &HostInfo| h
        .memory_available_bytes),
    info!(processes, MaybeU32, |h: &HostInfo| Some(h.processes)),
    info!(threads, MaybeU32, |h: &HostInfo| Some(h.threads)),
    cost!(agent_cpu_time_ns_delta, |c: &AgentCost| Some(c.cpu_time_ns_delta)),
    cost!(agent_rss_bytes, |c: &AgentCost| Some(c.rss_bytes)),
    cost!(agent_drain_ns, |c: &AgentCost| Some(c.drain_ns)),
    cost!(agent_events, |c: &AgentCost| Some(c.events)),
    cost!(agent_queue_len, |c: &AgentCost| Some(c.queue_len)),
    cost!(kernel_ppm, |c: &AgentCost| c.kernel_ppm),
    cost!(kernel_budget_ppm, |c: &AgentCost| c.kernel_budget_ppm),
    cost!(attach_ns, |c: &AgentCost| c.attach_ns),
    column!(program_names, Texts, |s, ()| programs(s)
        .map(|p| p.name.as_str())
        .collect()),
    column!(program_runs, Numbers, |s, ()| programs(s)
        .map(|p| p.runs)
        .collect()),
    column!(program_run_ns, Numbers, |s, ()| programs(s)
        .map(|p| p.run_ns)
        .collect()),
    column!(sources, Texts, |s, ()| s.sources()),
    column!(losses, Counts, |s, ()| &s.losses),
];

/// A snapshot that the store refused for good: the row is the reason.
pub(crate) static SET_ASIDE: &[Column<String>] = &[
    column!(agent_id, Uuid, |s, _| s.agent.agent_id),
    column!(epoch, U64, |s, _| s.agent.epoch),
    column!(seq, U64, |s, _| s.seq),
    column!(host, Word, |s, _| &s.host),
    column!(time, Time, |s, _| s.time_ms),
    column!(reason, Text, |_, reason| reason.as_bytes()),
    column!(snapshot, Text, |s, _| &s.encoded),
    column!(received_at, Time, |s, _| s.received_at_ms),
];

/// How far an epoch is stored; the row of table `agents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentMark {
    /// Every snapshot up to and with this one is stored.
    pub(crate) durable_seq: u64,
    /// When the row was written.
    pub(crate) updated_at_ms: i64,
}

pub(crate) static AGENTS: &[Column<AgentMark>] = &[
    column!(agent_id, Uuid, |s, _| s.agent.agent_id),
    column!(epoch, U64, |s, _| s.agent.epoch),
    column!(host, Word, |s, _| &s.host),
    column!(agent_version, Word, |s, _| s
        .host_info
        .as_ref()
        .map_or("", |h| &h.agent_version)),
    column!(durable_seq, U64, |_, m| m.durable_seq),
    column!(time, Time, |s, _| s.time_ms),
    column!(updated_at, Time, |_, m| m.updated_at_ms),
];

/// A row: an item and the snapshot it came with.
pub(crate) type Row<'a, T> = (&'a Snapshot, &'a T);

fn hour(time_ms: i64) -> i64 {
    time_ms.div_euclid(3_600_000)
}

/// The sort key of `process_samples` as far as it is one for the whole snapshot.
fn order_snapshots(a: &Snapshot, b: &Snapshot) -> Ordering {
    (hour(a.time_ms), &a.host).cmp(&(hour(b.time_ms), &b.host))
}

/// All rows of these snapshots in the order of `process_samples`. Snapshots are sorted first, so that only rows of one hour
/// and host are compared with each other.
pub(crate) fn sorted_samples<'a>(snapshots: &mut [&'a Snapshot]) -> Vec<Row<'a, ProcessSample>> {
    snapshots.sort_by(|a, b| order_snapshots(a, b));
    let mut sorted = Vec::with_capacity(snapshots.iter().map(|s| s.samples.len()).sum());
    for alike in snapshots.chunk_by(|a, b| order_snapshots(a, b).is_eq()) {
        sorted.extend(self::sorted(
            alike,
            |s| &s.samples,
            |a, b| {
                let key = |row: &Row<'a, ProcessSample>| {
                    (
                        row.1.identity.pid,
                        row.1.identity.start_boottime_ns,
                        row.0.time_ms,
                    )
                };
                let (x, y) = (&a.1.identity.name, &b.1.identity.name);
                let names = if Arc::ptr_eq(x, y) {
                    Ordering::Equal
                } else {
                    x.cmp(y)
                };
                names.then_with(|| key(a).cmp(&key(b)))
            },
        ));
    }
    sorted
}

/// All rows of one kind of these snapshots, in the order of their table.
pub(crate) fn sorted<'a, T>(
    snapshots: &[&'a Snapshot],
    of: impl Fn(&'a Snapshot) -> &'a [T],
    order: impl FnMut(&Row<'a, T>, &Row<'a, T>) -> Ordering,
) -> Vec<Row<'a, T>> {
    let each = snapshots
        .iter()
        .flat_map(|s| of(s).iter().map(move |row| (*s, row)));
    let mut rows: Vec<_> = each.collect();
    rows.sort_unstable_by(order);
    rows
}

/// The sort key of `process_exits`.
pub(crate) fn order_exits(a: &Row<'_, ProcessExit>, b: &Row<'_, ProcessExit>) -> Ordering {
    fn key<'a>((s, r): &Row<'a, ProcessExit>) -> (i64, &'a str, &'a str, i64, Uuid) {
        let process_id = r.identity.process_id;
        (
            hour(r.end_time_ms),
            &s.host,
            &r.identity.name,
            r.end_time_ms,
            process_id,
        )
    }
    key(a).cmp(&key(b))
}

/// The sort key of `processes`.
pub(crate) fn order_processes(a: &Row<'_, ProcessInfo>, b: &Row<'_, ProcessInfo>) -> Ordering {
    let key = |row: &Row<'_, ProcessInfo>| (row.1.identity.process_id, row.1.identity.exec_generation);
    key(a).cmp(&key(b))
}

/// The sort key of `host_samples`.
pub(crate) fn order_hosts(a: &Row<'_, ()>, b: &Row<'_, ()>) -> Ordering {
    order_snapshots(a.0, b.0).then_with(|| a.0.time_ms.cmp(&b.0.time_ms))
}
