//! Answers of the wire as data: every field under its public name, absent as null.

use procscope_proto::v1::{
    AuditProgram, AuditRow, Coverage, CoverageLoss, ExitedProcess, GroupBy, HistoryPoint, Host, Metric,
    TimeRange, TopProcess,
};

use crate::{
    data::{Record, Value},
    when::{ends, from_wire},
};

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
    vec![
        ("name", (&p.name).into()),
        ("hosts", (&p.hosts).into()),
        ("process_id", p.process_id.as_ref().into()),
        ("pid", p.pid.into()),
        ("parent_pid", p.parent_pid.into()),
        ("start_time", from_wire(p.start_time.as_ref()).into()),
        ("uid", p.uid.into()),
        ("container_id", known(p.container_id.as_deref())),
        ("exe", known(p.exe.as_deref())),
        ("cmdline", known(p.cmdline.as_deref())),
        ("kernel_thread", p.kernel_thread.into()),
        ("exited", p.exited.into()),
        ("avg_cpu_percent", p.avg_cpu_percent.into()),
        ("cpu_seconds", p.cpu_seconds.into()),
        ("cpu_time_ns", p.cpu_time_ns.into()),
        ("rss_bytes", p.rss_bytes.into()),
        ("avg_memory_mb", p.avg_memory_mb.into()),
        ("peak_memory_mb", p.peak_memory_mb.into()),
        ("avg_num_procs", p.avg_num_procs.into()),
        ("threads", p.threads.into()),
        ("runqueue_seconds", p.runqueue_seconds.into()),
        ("voluntary_switches", p.voluntary_switches.into()),
        ("involuntary_switches", p.involuntary_switches.into()),
        ("minor_faults", p.minor_faults.into()),
        ("major_faults", p.major_faults.into()),
        ("last_time", from_wire(p.last_time.as_ref()).into()),
        ("source", known(Some(&p.source))),
        ("user_cpu_seconds", p.user_cpu_seconds.into()),
        ("system_cpu_seconds", p.system_cpu_seconds.into()),
        ("runqueue_waits", p.runqueue_waits.into()),
        ("read_bytes", p.read_bytes.into()),
        ("written_bytes", p.written_bytes.into()),
        ("read_operations", p.read_operations.into()),
        ("write_operations", p.write_operations.into()),
        ("disk_read_bytes", p.disk_read_bytes.into()),
        ("disk_written_bytes", p.disk_written_bytes.into()),
        ("rss_anon_bytes", p.rss_anon_bytes.into()),
        ("rss_file_bytes", p.rss_file_bytes.into()),
        ("rss_shmem_bytes", p.rss_shmem_bytes.into()),
        ("swap_bytes", p.swap_bytes.into()),
        ("virtual_bytes", p.virtual_bytes.into()),
        ("peak_open_file_descriptors", p.peak_open_file_descriptors.into()),
        ("open_file_descriptor_limit", p.open_file_descriptor_limit.into()),
        ("state", known(p.state.as_deref())),
        ("namespace_pid", p.namespace_pid.into()),
    ]
}

/// One step of a history; everything but the time is null in a gap.
pub(crate) fn history_point(p: &HistoryPoint) -> Record {
    vec![
        ("time", from_wire(p.time.as_ref()).into()),
        ("gap", p.gap.into()),
        ("avg_cpu_percent", p.avg_cpu_percent.into()),
        ("cpu_seconds", p.cpu_seconds.into()),
        ("cpu_time_ns", p.cpu_time_ns.into()),
        ("avg_memory_mb", p.avg_memory_mb.into()),
        ("peak_memory_mb", p.peak_memory_mb.into()),
        ("avg_num_procs", p.avg_num_procs.into()),
        ("threads", p.threads.into()),
        ("runqueue_seconds", p.runqueue_seconds.into()),
        ("avg_user_percent", p.avg_user_percent.into()),
        ("avg_system_percent", p.avg_system_percent.into()),
        ("runqueue_waits", p.runqueue_waits.into()),
        ("read_bytes", p.read_bytes.into()),
        ("written_bytes", p.written_bytes.into()),
        ("read_operations", p.read_operations.into()),
        ("write_operations", p.write_operations.into()),
        ("disk_read_bytes", p.disk_read_bytes.into()),
        ("disk_written_bytes", p.disk_written_bytes.into()),
        ("peak_open_file_descriptors", p.peak_open_file_descriptors.into()),
    ]
}

/// A process that ended.
pub(crate) fn exited_process(p: &ExitedProcess) -> Record {
    vec![
        ("name", (&p.name).into()),
        ("host", (&p.host).into()),
        ("process_id", (&p.process_id).into()),
        ("exec_generation", p.exec_generation.into()),
        ("pid", p.pid.into()),
        ("parent_pid", p.parent_pid.into()),
        ("uid", p.uid.into()),
        ("exe", known(Some(&p.exe))),
        ("container_id", known(Some(&p.container_id))),
        ("start_time", from_wire(p.start_time.as_ref()).into()),
        ("end_time", from_wire(p.end_time.as_ref()).into()),
        ("lifetime_ns", p.lifetime_ns.into()),
        ("cpu_time_ns", p.cpu_time_ns.into()),
        ("peak_rss_bytes", p.peak_rss_bytes.into()),
        ("exit_code", p.exit_code.into()),
        ("exit_signal", p.exit_signal.into()),
        ("oom_killed", p.oom_killed.into()),
        ("runqueue_ns", p.runqueue_ns.into()),
        ("voluntary_switches", p.voluntary_switches.into()),
        ("involuntary_switches", p.involuntary_switches.into()),
        ("minor_faults", p.minor_faults.into()),
        ("major_faults", p.major_faults.into()),
        ("source", known(Some(&p.source))),
        ("user_time_ns", p.user_time_ns.into()),
        ("system_time_ns", p.system_time_ns.into()),
        ("runqueue_waits", p.runqueue_waits.into()),
        ("read_bytes", p.read_bytes.into()),
        ("written_bytes", p.written_bytes.into()),
        ("read_operations", p.read_operations.into()),
        ("write_operations", p.write_operations.into()),
        ("disk_read_bytes", p.disk_read_bytes.into()),
        ("disk_written_bytes", p.disk_written_bytes.into()),
        ("namespace_pid", p.namespace_pid.into()),
    ]
}

/// A host.
pub(crate) fn host(h: &Host) -> Record {
    vec![
        ("host", (&h.host).into()),
        ("agent_id", (&h.agent_id).into()),
        ("agents", h.agents.into()),
        ("agent_version", known(Some(&h.agent_version))),
        ("last_seen", from_wire(h.last_seen.as_ref()).into()),
        ("interval_ns", h.interval_ns.into()),
        ("kernel_release", known(Some(&h.kernel_release))),
        ("architecture", known(Some(&h.architecture))),
        ("cpus", h.cpus.into()),
        ("cpu_percent", h.cpu_percent.into()),
        ("memory_total_bytes", h.memory_total_bytes.into()),
        ("memory_available_bytes", h.memory_available_bytes.into()),
        ("processes", h.processes.into()),
        ("threads", h.threads.into()),
        ("agent_cpu_percent", h.agent_cpu_percent.into()),
        ("agent_rss_bytes", h.agent_rss_bytes.into()),
        ("coverage", coverage(h.coverage.as_ref())),
    ]
}

/// Where the CPU time of one host went.
pub(crate) fn audit_row(a: &AuditRow) -> Record {
    vec![
        ("host", (&a.host).into()),
        ("cpus", a.cpus.into()),
        ("snapshots", a.snapshots.into()),
        ("wall_ns", a.wall_ns.into()),
        ("process_ns", a.process_ns.into()),
        ("kthread_ns", a.kthread_ns.into()),
        ("idle_ns", a.idle_ns.into()),
        ("iowait_ns", a.iowait_ns.into()),
        ("irq_ns", a.irq_ns.into()),
        ("softirq_ns", a.softirq_ns.into()),
        ("steal_ns", a.steal_ns.into()),
        ("interrupts_in_tasks", a.interrupts_in_tasks.into()),
        ("residual_ns", a.residual_ns.into()),
        ("residual_percent", a.residual_percent.into()),
        ("lost_events", a.lost_events.into()),
        ("torn_reads", a.torn_reads.into()),
        ("losses", losses(&a.losses)),
        ("kernel_ppm", a.kernel_ppm.into()),
        ("kernel_percent", a.kernel_ppm.map(percent_of_ppm).into()),
        ("kernel_budget_ppm", a.kernel_budget_ppm.into()),
        ("attach_ns", a.attach_ns.into()),
        ("programs", programs(a)),
        ("agent_cpu_time_ns", a.agent_cpu_time_ns.into()),
        ("agent_cpu_percent", a.agent_cpu_percent.into()),
        ("agent_peak_rss_bytes", a.agent_peak_rss_bytes.into()),
        ("agent_avg_drain_ns", a.agent_avg_drain_ns.into()),
        ("agent_max_drain_ns", a.agent_max_drain_ns.into()),
        ("agent_events", a.agent_events.into()),
    ]
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
