//! Answers of the wire as data: every field under its public name, absent as null.

use procscope_proto::v1::{
    AuditProgram, AuditRow, Coverage, CoverageLoss, ExitedProcess, GroupBy, HistoryPoint, Host, Metric,
    ProcessIdentity, TimeRange, TopProcess,
};

use crate::{
    data::{Record, Value},
    when::{ends, from_wire},
};

/// A record of fields under their own names, with `= value` where a field is said in another way.
macro_rules! record {
    (@ $field:expr) => {
        Value::from($field)
    };
    (@ $field:expr, $value:expr) => {
        Value::from($value)
    };
    ($of:ident: $($name:ident $(= $value:expr)?),* $(,)?) => {
        vec![$((stringify!($name), record!(@ $of.$name $(, $value)?))),*]
    };
}

/// `start`, `end` and `coverage`, which every answer has.
pub(crate) fn head(range: Option<&TimeRange>, coverage_of: Option<&Coverage>) -> Record {
    let (start, end) = ends(range);
    vec![
        ("start", start.into()),
        ("end", end.into()),
        ("coverage", coverage(coverage_of)),
    ]
}

/// Coverage; all null when the server did not say.
pub(crate) fn coverage(coverage: Option<&Coverage>) -> Value {
    Value::Object(vec![
        ("share", coverage.map(|c| c.share).into()),
        (
            "observed_host_seconds",
            coverage.map(|c| c.observed_host_seconds).into(),
        ),
        (
            "total_host_seconds",
            coverage.map(|c| c.total_host_seconds).into(),
        ),
        ("losses", coverage.map_or(Value::Null, |c| losses(&c.losses))),
        ("sources", coverage.map(|c| &c.sources).into()),
    ])
}

fn losses(losses: &[CoverageLoss]) -> Value {
    let one = |loss: &CoverageLoss| {
        Value::Object(vec![
            ("reason", (&loss.reason).into()),
            ("count", loss.count.into()),
        ])
    };
    Value::List(losses.iter().map(one).collect())
}

/// The name of a metric in the REST interface.
pub(crate) fn metric(metric: Metric) -> Value {
    match metric {
        Metric::Unspecified => Value::Null,
        Metric::Cpu => "cpu".into(),
        Metric::Memory => "memory".into(),
        Metric::PeakMemory => "peak_memory".into(),
        Metric::Runqueue => "runqueue".into(),
        Metric::Io => "io".into(),
        Metric::Faults => "faults".into(),
        Metric::Switches => "switches".into(),
    }
}

/// The name of a grouping in the REST interface.
pub(crate) fn group_by(group_by: GroupBy) -> Value {
    match group_by {
        GroupBy::Unspecified => Value::Null,
        GroupBy::Process => "process".into(),
        GroupBy::Command => "command".into(),
        GroupBy::Container => "container".into(),
        GroupBy::Pod => "pod".into(),
        GroupBy::User => "user".into(),
        GroupBy::Host => "host".into(),
    }
}

/// A process or a group.
pub(crate) fn top_process(p: &TopProcess) -> Record {
    record! { p:
        name = &p.name,
        hosts = &p.hosts,
        process_id = p.process_id.as_ref(),
        pid, parent_pid,
        start_time = from_wire(p.start_time.as_ref()),
        uid,
        container_id = known(p.container_id.as_deref()),
        pod_uid = known(p.pod_uid.as_deref()),
        exe = known(p.exe.as_deref()),
        cmdline = known(p.cmdline.as_deref()),
        kernel_thread, exited, avg_cpu_percent, cpu_seconds, cpu_time_ns, rss_bytes, avg_memory_mb,
        peak_memory_mb, avg_num_procs, threads, runqueue_seconds, voluntary_switches, involuntary_switches,
        minor_faults, major_faults,
        last_time = from_wire(p.last_time.as_ref()),
        source = known(Some(&p.source)),
        user_cpu_seconds, system_cpu_seconds, runqueue_waits, read_bytes, written_bytes, read_operations,
        write_operations, disk_read_bytes, disk_written_bytes, rss_anon_bytes, rss_file_bytes, rss_shmem_bytes,
        swap_bytes, virtual_bytes, peak_open_file_descriptors, open_file_descriptor_limit,
        state = known(p.state.as_deref()),
        namespace_pid,
        boot_id = p.boot_id.as_ref(),
        start_boottime_ns, exec_generation, parent_start_boottime_ns, cgroup_id, lifetime_peak_rss_bytes,
        ended_threads_cpu_seconds,
        runqueue_wait_counts = counts(&p.runqueue_wait_counts),
    }
}

/// One step of a history; everything but the time is null in a gap.
pub(crate) fn history_point(p: &HistoryPoint) -> Record {
    record! { p:
        time = from_wire(p.time.as_ref()),
        gap, avg_cpu_percent, cpu_seconds, cpu_time_ns, avg_memory_mb, peak_memory_mb, avg_num_procs, threads,
        runqueue_seconds, avg_user_percent, avg_system_percent, runqueue_waits, read_bytes, written_bytes,
        read_operations, write_operations, disk_read_bytes, disk_written_bytes, peak_open_file_descriptors,
        exec_generation, cgroup_id, lifetime_peak_rss_bytes, ended_threads_cpu_seconds,
        runqueue_wait_counts = counts(&p.runqueue_wait_counts),
    }
}

/// Who a history is of, beside id, host and name; all null when it is of a name.
pub(crate) fn identity(process: Option<&ProcessIdentity>) -> Record {
    vec![
        ("boot_id", process.and_then(|p| p.boot_id.as_ref()).into()),
        ("pid", process.map(|p| p.pid).into()),
        ("start_boottime_ns", process.map(|p| p.start_boottime_ns).into()),
        (
            "start_time",
            process.and_then(|p| from_wire(p.start_time.as_ref())).into(),
        ),
        ("parent_pid", process.map(|p| p.parent_pid).into()),
        (
            "parent_start_boottime_ns",
            process.and_then(|p| p.parent_start_boottime_ns).into(),
        ),
    ]
}

/// A process that ended.
pub(crate) fn exited_process(p: &ExitedProcess) -> Record {
    record! { p:
        name = &p.name,
        host = &p.host,
        process_id = &p.process_id,
        exec_generation, pid, parent_pid, uid,
        exe = known(Some(&p.exe)),
        container_id = known(Some(&p.container_id)),
        pod_uid = known(Some(&p.pod_uid)),
        start_time = from_wire(p.start_time.as_ref()),
        end_time = from_wire(p.end_time.as_ref()),
        lifetime_ns, cpu_time_ns, peak_rss_bytes, exit_code, exit_signal, oom_killed, runqueue_ns,
        voluntary_switches, involuntary_switches, minor_faults, major_faults,
        source = known(Some(&p.source)),
        user_time_ns, system_time_ns, runqueue_waits, read_bytes, written_bytes, read_operations,
        write_operations, disk_read_bytes, disk_written_bytes, namespace_pid,
        boot_id = p.boot_id.as_ref(),
        start_boottime_ns, parent_start_boottime_ns,
    }
}

/// A host.
pub(crate) fn host(h: &Host) -> Record {
    record! { h:
        host = &h.host,
        agent_id = &h.agent_id,
        agents,
        agent_version = known(Some(&h.agent_version)),
        last_seen = from_wire(h.last_seen.as_ref()),
        interval_ns,
        kernel_release = known(Some(&h.kernel_release)),
        architecture = known(Some(&h.architecture)),
        cpus, cpu_percent, memory_total_bytes, memory_available_bytes, processes, threads, agent_cpu_percent,
        agent_rss_bytes,
        coverage = coverage(h.coverage.as_ref()),
    }
}

/// Where the CPU time of one host went.
pub(crate) fn audit_row(a: &AuditRow) -> Record {
    record! { a:
        host = &a.host,
        cpus, snapshots, wall_ns, process_ns, kthread_ns, idle_ns, iowait_ns, irq_ns, softirq_ns, steal_ns,
        interrupts_in_tasks, residual_ns, residual_percent, lost_events, torn_reads,
        losses = losses(&a.losses),
        kernel_ppm,
        kernel_percent = a.kernel_ppm.map(percent_of_ppm),
        kernel_budget_ppm, attach_ns,
        programs = programs(a),
        agent_cpu_time_ns, agent_cpu_percent, agent_peak_rss_bytes, agent_avg_drain_ns, agent_max_drain_ns,
        agent_events,
    }
}

/// Parts per million as percent.
pub(crate) fn percent_of_ppm(ppm: f64) -> f64 {
    ppm / 10_000.0
}

/// The programs in the kernel; null when nobody told of any.
fn programs(a: &AuditRow) -> Value {
    let one = |program: &AuditProgram| {
        Value::Object(vec![
            ("name", (&program.name).into()),
            ("runs", program.runs.into()),
            ("run_ns", program.run_ns.into()),
        ])
    };
    if a.programs.is_empty() {
        return Value::Null;
    }
    Value::List(a.programs.iter().map(one).collect())
}

/// Counts that nobody took are not known.
fn counts(counts: &[u64]) -> Value {
    if counts.is_empty() {
        return Value::Null;
    }
    Value::List(counts.iter().copied().map(Value::from).collect())
}

/// An empty text on the wire means that it is not known.
fn known(text: Option<&str>) -> Value {
    text.filter(|text| !text.is_empty()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_no_pid_and_no_zero_in_its_place() {
        let record = top_process(&TopProcess {
            name: "nginx".to_owned(),
            ..TopProcess::default()
        });
        let null: Vec<&str> = record
            .iter()
            .filter(|(_, value)| *value == Value::Null)
            .map(|(name, _)| *name)
            .collect();
        assert!(
            ["pid", "uid", "rss_bytes", "exited", "runqueue_seconds"]
                .iter()
                .all(|name| null.contains(name))
        );
    }
}
