//! Answers into the messages of `procscope.v1`, and questions out of them.

use std::cmp::Reverse;

use procscope_proto::v1;
use prost_types::Timestamp;
use tonic::Status;

use crate::{
    api::invalid_argument,
    ingest::decode::milliseconds,
    model::TimeRange,
    query::{
        AskedRange, Audit, Coverage, Exits, GroupBy, Groups, History, Host, Hosts, Metric, Point, Top,
        TopQuery,
    },
    store::answers::{AuditRow, ExitRow, IdentityRow, InfoRow, TopRow},
};

/// Milliseconds since 1970 as a timestamp.
#[must_use]
pub fn timestamp(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos,
    }
}

/// A timestamp as RFC 3339, in UTC.
pub(super) fn text_of(time: Timestamp) -> String {
    jiff::Timestamp::new(time.seconds, time.nanos)
        .map_or_else(|_out_of_range| String::new(), |time| time.to_string())
}

fn range(range: TimeRange) -> v1::TimeRange {
    v1::TimeRange {
        start: Some(timestamp(range.start_ms)),
        end: Some(timestamp(range.end_ms)),
    }
}

/// A range out of a request; a side that is absent stays absent.
pub(super) fn asked_range(range: Option<v1::TimeRange>) -> Result<Option<AskedRange>, Status> {
    let side = |field: &str, time: Option<Timestamp>| {
        let ms = time
            .map(|time| milliseconds(time).ok_or_else(|| invalid_argument(field, "is no valid timestamp")));
        ms.transpose()
    };
    let Some(range) = range else { return Ok(None) };
    Ok(Some(AskedRange {
        start_ms: side("range.start", range.start)?,
        end_ms: side("range.end", range.end)?,
        last_ms: None,
    }))
}

pub(super) fn top_query(request: v1::ListTopProcessesRequest) -> Result<TopQuery, Status> {
    let metric = match v1::Metric::try_from(request.metric) {
        Ok(v1::Metric::Unspecified | v1::Metric::Cpu) => Metric::Cpu,
        Ok(v1::Metric::Memory) => Metric::Memory,
        Ok(v1::Metric::PeakMemory) => Metric::PeakMemory,
        Ok(v1::Metric::Runqueue) => Metric::Runqueue,
        Ok(v1::Metric::Io) => Metric::Io,
        Ok(v1::Metric::Faults) => Metric::Faults,
        Ok(v1::Metric::Switches) => Metric::Switches,
        Err(_unknown) => return Err(invalid_argument("metric", "is not one that this collector knows")),
    };
    let group_by = match v1::GroupBy::try_from(request.group_by) {
        Ok(v1::GroupBy::Unspecified | v1::GroupBy::Command) => GroupBy::Command,
        Ok(v1::GroupBy::Process) => GroupBy::Process,
        Ok(v1::GroupBy::Container) => GroupBy::Container,
        Ok(v1::GroupBy::Pod) => GroupBy::Pod,
        Ok(v1::GroupBy::User) => GroupBy::User,
        Ok(v1::GroupBy::Host) => GroupBy::Host,
        Err(_unknown) => {
            return Err(invalid_argument(
                "group_by",
                "is not one that this collector knows",
            ));
        }
    };
    Ok(TopQuery {
        hosts: request.hosts,
        metric,
        limit: request.limit,
        group_by,
        range: asked_range(request.range)?,
        last_intervals: request.last_intervals,
        name_contains: request.name_contains,
    })
}

pub(super) fn top(answer: Top, query: &TopQuery) -> v1::ListTopProcessesResponse {
    let metric = match query.metric {
        Metric::Cpu => v1::Metric::Cpu,
        Metric::Memory => v1::Metric::Memory,
        Metric::PeakMemory => v1::Metric::PeakMemory,
        Metric::Runqueue => v1::Metric::Runqueue,
        Metric::Io => v1::Metric::Io,
        Metric::Faults => v1::Metric::Faults,
        Metric::Switches => v1::Metric::Switches,
    };
    let group_by = match query.group_by {
        GroupBy::Process => v1::GroupBy::Process,
        GroupBy::Command => v1::GroupBy::Command,
        GroupBy::Container => v1::GroupBy::Container,
        GroupBy::Pod => v1::GroupBy::Pod,
        GroupBy::User => v1::GroupBy::User,
        GroupBy::Host => v1::GroupBy::Host,
    };
    v1::ListTopProcessesResponse {
        range: Some(range(answer.range)),
        metric: metric.into(),
        group_by: group_by.into(),
        coverage: Some(coverage(answer.coverage)),
        processes: answer
            .rows
            .into_iter()
            .map(|(row, info)| top_process(row, info))
            .collect(),
    }
}

fn top_process(row: TopRow, info: Option<InfoRow>) -> v1::TopProcess {
    let known = |text: String| (!text.is_empty()).then_some(text);
    let (exe, cmdline) = info.map_or((None, None), |info| (known(info.exe), known(info.cmdline)));
    v1::TopProcess {
        name: row.name,
        hosts: row.member_hosts,
        process_id: row.process_id,
        pid: row.pid,
        parent_pid: row.parent_pid,
        start_time: row.start_time_ms.map(timestamp),
        uid: row.uid,
        container_id: row.container_id,
        pod_uid: row.pod_uid,
        exe,
        cmdline,
        kernel_thread: row.kernel_thread,
        exited: row.exited,
        avg_cpu_percent: row.avg_cpu_percent,
        cpu_seconds: row.cpu_seconds,
        cpu_time_ns: row.cpu_time_ns,
        avg_memory_mb: row.avg_memory_mb,
        peak_memory_mb: row.peak_memory_mb,
        avg_num_procs: row.avg_num_procs,
        runqueue_seconds: row.runqueue_seconds,
        voluntary_switches: row.voluntary_switches,
        involuntary_switches: row.involuntary_switches,
        minor_faults: row.minor_faults,
        major_faults: row.major_faults,
        threads: row.threads,
        last_time: Some(timestamp(row.last_time_ms)),
        rss_bytes: row.rss_bytes,
        user_cpu_seconds: row.user_cpu_seconds,
        system_cpu_seconds: row.system_cpu_seconds,
        runqueue_waits: row.runqueue_waits,
        read_bytes: row.read_bytes,
        written_bytes: row.written_bytes,
        read_operations: row.read_operations,
        write_operations: row.write_operations,
        disk_read_bytes: row.disk_read_bytes,
        disk_written_bytes: row.disk_written_bytes,
        rss_anon_bytes: row.rss_anon_bytes,
        rss_file_bytes: row.rss_file_bytes,
        rss_shmem_bytes: row.rss_shmem_bytes,
        swap_bytes: row.swap_bytes,
        virtual_bytes: row.virtual_bytes,
        peak_open_file_descriptors: row.peak_open_file_descriptors,
        source: row.source,
        open_file_descriptor_limit: row.open_file_descriptor_limit,
        state: row.state,
        namespace_pid: row.namespace_pid,
        boot_id: row.boot_id,
        start_boottime_ns: row.start_boottime_ns,
        exec_generation: row.exec_generation,
        parent_start_boottime_ns: row.parent_start_boottime_ns,
        cgroup_id: row.cgroup_id,
        lifetime_peak_rss_bytes: row.lifetime_peak_rss_bytes,
        ended_threads_cpu_seconds: row.ended_threads_cpu_seconds,
        runqueue_wait_counts: row.runqueue_wait_counts,
    }
}

pub(super) fn groups(answer: Groups) -> v1::ListGroupsResponse {
    let per_process = |sum: f64, members: f64| if members > 0.0 { sum / members } else { 0.0 };
    let (cpu, memory) = answer.total.as_ref().map_or((0.0, 0.0), |total| {
        let memory = total.avg_memory_mb.unwrap_or(0.0);
        (
            per_process(total.avg_cpu_percent, total.avg_num_procs),
            per_process(memory, total.avg_num_procs),
        )
    });
    v1::ListGroupsResponse {
        range: Some(range(answer.range)),
        coverage: Some(coverage(answer.coverage)),
        total: answer.total.map(|row| top_process(row, None)),
        avg_cpu_percent_per_process: cpu,
        avg_memory_mb_per_process: memory,
        members: answer
            .members
            .into_iter()
            .map(|row| top_process(row, None))
            .collect(),
    }
}

pub(super) fn history(answer: History) -> v1::GetProcessHistoryResponse {
    v1::GetProcessHistoryResponse {
        range: Some(range(answer.range)),
        step_ms: u64::try_from(answer.step_ms).unwrap_or(0),
        coverage: Some(coverage(answer.coverage)),
        points: answer.points.into_iter().map(point).collect(),
        process: answer
            .process
            .map(|(process_id, row)| process_identity(process_id, row)),
    }
}

fn process_identity(process_id: String, row: IdentityRow) -> v1::ProcessIdentity {
    v1::ProcessIdentity {
        process_id,
        boot_id: row.boot,
        pid: row.pid,
        start_boottime_ns: row.start_boottime_ns,
        start_time: Some(timestamp(row.start_time_ms)),
        parent_pid: row.parent_pid,
        parent_start_boottime_ns: row.parent_start_boottime_ns,
        host: row.ran_on,
        name: row.command,
    }
}

fn point(point: Point) -> v1::HistoryPoint {
    let time = Some(timestamp(point.time_ms));
    let Some(step) = point.step else {
        return v1::HistoryPoint {
            time,
            gap: true,
            ..v1::HistoryPoint::default()
        };
    };
    v1::HistoryPoint {
        time,
        gap: false,
        avg_cpu_percent: Some(step.avg_cpu_percent),
        cpu_seconds: Some(step.cpu_seconds),
        avg_memory_mb: step.avg_memory_mb,
        peak_memory_mb: step.peak_memory_mb,
        avg_num_procs: Some(step.avg_num_procs),
        runqueue_seconds: step.runqueue_seconds,
        threads: step.threads,
        cpu_time_ns: step.cpu_time_ns,
        avg_user_percent: step.avg_user_percent,
        avg_system_percent: step.avg_system_percent,
        runqueue_waits: step.runqueue_waits,
        read_bytes: step.read_bytes,
        written_bytes: step.written_bytes,
        read_operations: step.read_operations,
        write_operations: step.write_operations,
        disk_read_bytes: step.disk_read_bytes,
        disk_written_bytes: step.disk_written_bytes,
        peak_open_file_descriptors: step.peak_open_file_descriptors,
        exec_generation: step.exec_generation,
        cgroup_id: step.cgroup_id,
        lifetime_peak_rss_bytes: step.lifetime_peak_rss_bytes,
        ended_threads_cpu_seconds: step.ended_threads_cpu_seconds,
        runqueue_wait_counts: step.runqueue_wait_counts,
    }
}

pub(super) fn exits(answer: Exits) -> v1::ListProcessExitsResponse {
    v1::ListProcessExitsResponse {
        range: Some(range(answer.range)),
        coverage: Some(coverage(answer.coverage)),
        exits: answer.rows.into_iter().map(exit).collect(),
        next_page_token: answer.next_page_token,
        total: answer.total,
    }
}

fn exit(row: ExitRow) -> v1::ExitedProcess {
    v1::ExitedProcess {
        process_id: row.id,
        exec_generation: row.exec_generation,
        host: row.host_name,
        name: row.command,
        pid: row.pid,
        parent_pid: row.parent_pid,
        uid: row.uid,
        start_time: Some(timestamp(row.start_time_ms)),
        end_time: Some(timestamp(row.end_time_ms)),
        lifetime_ns: row.lifetime_ns,
        cpu_time_ns: row.cpu_time_ns,
        peak_rss_bytes: row.peak_rss_bytes,
        exit_code: row.exit_code,
        exit_signal: row.exit_signal,
        oom_killed: row.oom_killed,
        container_id: row.container,
        pod_uid: row.pod,
        runqueue_ns: row.runqueue_ns,
        voluntary_switches: row.voluntary_switches,
        involuntary_switches: row.involuntary_switches,
        minor_faults: row.minor_faults,
        major_faults: row.major_faults,
        exe: row.exe,
        source: row.measured,
        user_time_ns: row.user_time_ns,
        system_time_ns: row.system_time_ns,
        runqueue_waits: row.runqueue_waits,
        read_bytes: row.read_bytes,
        written_bytes: row.written_bytes,
        read_operations: row.read_operations,
        write_operations: row.write_operations,
        disk_read_bytes: row.disk_read_bytes,
        disk_written_bytes: row.disk_written_bytes,
        namespace_pid: row.namespace_pid,
        boot_id: row.boot,
        start_boottime_ns: row.start_boottime_ns,
        parent_start_boottime_ns: row.parent_start_boottime_ns,
    }
}

pub(super) fn hosts(answer: Hosts) -> v1::ListHostsResponse {
    v1::ListHostsResponse {
        range: Some(range(answer.range)),
        hosts: answer.hosts.into_iter().map(host).collect(),
    }
}

fn host(
    Host {
        row,
        coverage: observed,
    }: Host,
) -> v1::Host {
    v1::Host {
        host: row.name,
        agent_id: row.newest_agent_id,
        last_seen: Some(timestamp(row.last_seen_ms)),
        interval_ns: row.newest_interval_ns,
        agent_version: row.newest_agent_version,
        kernel_release: row.newest_kernel_release,
        architecture: row.newest_architecture,
        cpus: row.newest_cpus.unwrap_or(0),
        memory_total_bytes: row.newest_memory_total_bytes.unwrap_or(0),
        memory_available_bytes: row.newest_memory_available_bytes,
        processes: row.newest_processes.unwrap_or(0),
        threads: row.newest_threads.unwrap_or(0),
        coverage: Some(coverage(observed)),
        cpu_percent: row.newest_cpu_percent.unwrap_or(0.0),
        agents: u32::try_from(row.agents).unwrap_or(u32::MAX),
        agent_cpu_percent: row.agent_cpu_percent.unwrap_or(0.0),
        agent_rss_bytes: row.newest_agent_rss_bytes.unwrap_or(0),
    }
}

pub(super) fn audit(answer: Audit) -> v1::GetAuditResponse {
    v1::GetAuditResponse {
        range: Some(range(answer.range)),
        coverage: Some(coverage(answer.coverage)),
        rows: answer
            .rows
            .into_iter()
            .map(|(row, losses)| audit_row(row, losses))
            .collect(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a percentage needs no 64 bits"
)]
fn audit_row(row: AuditRow, losses: Vec<(String, u64)>) -> v1::AuditRow {
    let wall_ns = row.sum_wall_ns.unwrap_or(0);
    let residual_ns = row.sum_residual_ns.unwrap_or(0);
    let costs = row.runs.into_iter().zip(row.run_ns);
    let programs = row.names.into_iter().zip(costs);
    let mut programs: Vec<_> = programs
        .map(|(name, (runs, run_ns))| v1::AuditProgram { name, runs, run_ns })
        .collect();
    programs.sort_by_key(|program| Reverse(program.run_ns));
    v1::AuditRow {
        host: row.name,
        cpus: row.newest_cpus.unwrap_or(0),
        wall_ns,
        process_ns: row.sum_process_ns.unwrap_or(0),
        kthread_ns: row.sum_kthread_ns.unwrap_or(0),
        idle_ns: row.sum_idle_ns.unwrap_or(0),
        iowait_ns: row.sum_iowait_ns,
        irq_ns: row.sum_irq_ns,
        softirq_ns: row.sum_softirq_ns,
        steal_ns: row.sum_steal_ns,
        interrupts_in_tasks: row.any_interrupts_in_tasks.unwrap_or(false),
        residual_ns,
        residual_percent: if wall_ns > 0 {
            residual_ns as f64 / wall_ns as f64 * 100.0
        } else {
            0.0
        },
        lost_events: row.sum_lost_events.unwrap_or(0),
        torn_reads: row.sum_torn_reads.unwrap_or(0),
        snapshots: row.snapshots,
        losses: losses
            .into_iter()
            .map(|(reason, count)| v1::CoverageLoss { reason, count })
            .collect(),
        kernel_ppm: row.mean_kernel_ppm,
        kernel_budget_ppm: row.last_kernel_budget_ppm,
        attach_ns: row.last_attach_ns,
        programs,
        agent_cpu_time_ns: row.agent_cpu_time_ns,
        agent_cpu_percent: row.agent_cpu_percent,
        agent_peak_rss_bytes: row.agent_peak_rss_bytes,
        agent_avg_drain_ns: row.agent_avg_drain_ns,
        agent_max_drain_ns: row.agent_longest_drain_ns,
        agent_events: row.sum_agent_events,
    }
}

fn coverage(coverage: Coverage) -> v1::Coverage {
    let losses = coverage
        .losses
        .into_iter()
        .map(|(reason, count)| v1::CoverageLoss { reason, count });
    v1::Coverage {
        share: coverage.share,
        observed_host_seconds: coverage.observed_host_seconds,
        total_host_seconds: coverage.total_host_seconds,
        losses: losses.collect(),
        sources: coverage.sources,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_still_a_valid_timestamp() {
        assert_eq!(
            timestamp(-1),
            Timestamp {
                seconds: -1,
                nanos: 999_000_000
            }
        );
        assert_eq!(milliseconds(timestamp(-1)), Some(-1));
    }
}
