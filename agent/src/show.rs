//! A snapshot for people and programs without a collector: what `sample` prints.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use procscope_proto::v1;
use serde_json::{Value, json};

/// Rows of a table.
const TABLE_ROWS: usize = 20;

/// Executables and their arguments, as the snapshots told them: once for each process and exec.
#[derive(Debug, Default)]
pub struct Executables(HashMap<Vec<u8>, Executable>);

#[derive(Debug)]
struct Executable {
    path: String,
    cmdline: String,
}

impl Executables {
    fn learn(&mut self, snapshot: &v1::Snapshot) {
        for info in &snapshot.processes {
            let executable = Executable {
                path: info.exe.clone(),
                cmdline: info.cmdline.clone(),
            };
            self.0.insert(info.process_id.clone(), executable);
        }
    }

    fn forget_ended(&mut self, snapshot: &v1::Snapshot) {
        for exit in &snapshot.exits {
            self.0.remove(&exit.process_id);
        }
    }
}

/// One object a process and line, then one with the audit.
///
/// # Errors
/// When the output is gone.
pub fn json_lines(out: &mut impl Write, exes: &mut Executables, snapshot: &v1::Snapshot) -> io::Result<()> {
    exes.learn(snapshot);
    let time = time_text(snapshot.time.as_ref());
    let exits: HashMap<&[u8], &v1::ProcessExit> = snapshot
        .exits
        .iter()
        .map(|exit| (exit.process_id.as_slice(), exit))
        .collect();
    for sample in &snapshot.samples {
        let exit = exits.get(sample.process_id.as_slice());
        let executable = exes.0.get(&sample.process_id);
        // A row without a process began at no time.
        let began = sample.pid != 0;
        let line = json!({
            "time": time,
            "host": snapshot.host,
            "source": source_text(sample.source()).or_else(|| source_text(snapshot.source())),
            "process_id": uuid_text(&sample.process_id),
            "boot_id": uuid_text(&snapshot.boot_id),
            "exec_generation": sample.exec_generation,
            "pid": sample.pid,
            "parent_pid": sample.parent_pid,
            "parent_start_boottime_ns": known_number(sample.parent_start_boottime_ns),
            "start_boottime_ns": began.then_some(sample.start_boottime_ns),
            "start_time": time_text(sample.start_time.as_ref().filter(|_| began)),
            "name": sample.name,
            "exe": executable.and_then(|executable| known_text(&executable.path)),
            "cmdline": executable.and_then(|executable| known_text(&executable.cmdline)),
            "uid": sample.uid,
            "kernel_thread": sample.kernel_thread,
            "cpu_time_ns": sample.cpu_time_ns,
            "cpu_time_ns_delta": sample.cpu_time_ns_delta,
            "rss_bytes": sample.rss_bytes,
            "peak_rss_bytes": sample.peak_rss_bytes,
            "lifetime_peak_rss_bytes": sample.lifetime_peak_rss_bytes,
            "threads": sample.threads,
            "runqueue_ns_delta": sample.runqueue_ns_delta,
            "voluntary_switches_delta": sample.voluntary_switches_delta,
            "involuntary_switches_delta": sample.involuntary_switches_delta,
            "minor_faults_delta": sample.minor_faults_delta,
            "major_faults_delta": sample.major_faults_delta,
            "exited": sample.exited,
            "exit_code": exit.and_then(|exit| exit.exit_code),
            "exit_signal": exit.and_then(|exit| exit.exit_signal),
            "oom_killed": exit.and_then(|exit| exit.oom_killed),
            "end_time": exit.map(|exit| time_text(exit.end_time.as_ref())),
            "lifetime_ns": exit.map(|exit| exit.lifetime_ns),
            "user_time_ns_delta": sample.user_time_ns_delta,
            "system_time_ns_delta": sample.system_time_ns_delta,
            "ended_threads_cpu_time_ns_delta": sample.ended_threads_cpu_time_ns_delta,
            "runqueue_waits_delta": sample.runqueue_waits_delta,
            "rss_anon_bytes": sample.rss_anon_bytes,
            "rss_file_bytes": sample.rss_file_bytes,
            "rss_shmem_bytes": sample.rss_shmem_bytes,
            "swap_bytes": sample.swap_bytes,
            "virtual_bytes": sample.virtual_bytes,
            "open_file_descriptors": sample.open_file_descriptors,
            "open_file_descriptor_limit": sample.open_file_descriptor_limit,
            "read_bytes_delta": sample.read_bytes_delta,
            "written_bytes_delta": sample.written_bytes_delta,
            "read_operations_delta": sample.read_operations_delta,
            "write_operations_delta": sample.write_operations_delta,
            "disk_read_bytes_delta": sample.disk_read_bytes_delta,
            "disk_written_bytes_delta": sample.disk_written_bytes_delta,
            "runqueue_wait_counts": Some(&sample.runqueue_wait_counts).filter(|counts| !counts.is_empty()),
            "state": known_text(&sample.state),
            "namespace_pid": sample.namespace_pid,
            "cgroup_id": known_number(sample.cgroup_id),
            "container_id": known_text(&sample.container_id),
            "pod_uid": known_text(&sample.pod_uid),
        });
        writeln!(out, "{line}")?;
    }
    exes.forget_ended(snapshot);
    let line = books(snapshot, time.as_deref());
    writeln!(out, "{line}")?;
    out.flush()
}

/// Where the CPU time of the interval went, and what was lost of it.
fn books(snapshot: &v1::Snapshot, time: Option<&str>) -> Value {
    let audit = snapshot.audit.unwrap_or_default();
    let losses: serde_json::Map<String, Value> = snapshot
        .losses
        .iter()
        .map(|loss| (loss.reason.clone(), loss.count.into()))
        .collect();
    json!({
        "time": time,
        "host": snapshot.host,
        "interval_ns": snapshot.interval_ns,
        "audit": {
            "cpus": audit.cpus,
            "wall_ns": audit.wall_ns,
            "process_ns": audit.process_ns,
            "kthread_ns": audit.kthread_ns,
            "idle_ns": audit.idle_ns,
            "iowait_ns": audit.iowait_ns,
            "irq_ns": audit.irq_ns,
            "softirq_ns": audit.softirq_ns,
            "steal_ns": audit.steal_ns,
            "interrupts_in_tasks": audit.interrupts_in_tasks,
            "residual_ns": audit.residual_ns,
            "lost_events": audit.lost_events,
            "torn_reads": audit.torn_reads,
        },
        "losses": losses,
        "cost": cost(snapshot),
    })
}

/// What measuring cost in the interval.
fn cost(snapshot: &v1::Snapshot) -> Value {
    let cost = snapshot.agent_cost.clone().unwrap_or_default();
    let programs: serde_json::Map<String, Value> = cost
        .programs
        .into_iter()
        .map(|program| {
            let figures = json!({ "runs": program.runs, "run_ns": program.run_ns });
            (program.name, figures)
        })
        .collect();
    json!({
        "cpu_time_ns_delta": cost.cpu_time_ns_delta,
        "rss_bytes": cost.rss_bytes,
        "drain_ns": cost.drain_ns,
        "events": cost.events,
        "attach_ns": cost.attach_ns,
        "kernel_ppm": cost.kernel_ppm,
        "kernel_budget_ppm": cost.kernel_budget_ppm,
        "programs": programs,
    })
}

/// The processes that used most CPU in the interval.
///
/// # Errors
/// When the output is gone.
pub fn table(out: &mut impl Write, snapshot: &v1::Snapshot) -> io::Result<()> {
    let mut samples: Vec<&v1::ProcessSample> = snapshot.samples.iter().collect();
    samples.sort_by_key(|sample| std::cmp::Reverse(sample.cpu_time_ns_delta));
    writeln!(
        out,
        "{}  {}  {} processes, {} ended",
        time_text(snapshot.time.as_ref()).unwrap_or_default(),
        snapshot.host,
        samples.len(),
        snapshot.exits.len()
    )?;
    writeln!(
        out,
        "{:>8} {:>7} {:>10} {:>10} {:>5}  NAME",
        "PID", "CPU%", "RSS MiB", "PEAK MiB", "THR"
    )?;
    for sample in samples.into_iter().take(TABLE_ROWS) {
        let percent_x10 = sample.cpu_time_ns_delta.saturating_mul(1000) / snapshot.interval_ns.max(1);
        let mib =
            |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| (bytes >> 20).to_string());
        writeln!(
            out,
            "{:>8} {:>5}.{} {:>10} {:>10} {:>5}  {}{}",
            sample.pid,
            percent_x10 / 10,
            percent_x10 % 10,
            mib(sample.rss_bytes),
            mib(sample.peak_rss_bytes),
            sample.threads,
            sample.name,
            if sample.exited { "  (ended)" } else { "" }
        )?;
    }
    writeln!(out)?;
    out.flush()
}

fn uuid_text(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).unwrap_or_default().to_string()
}

/// On the wire an empty text is one that is not known.
fn known_text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// On the wire 0 is a start or a control group that is not known.
fn known_number(number: u64) -> Option<u64> {
    Some(number).filter(|number| *number != 0)
}

fn source_text(source: v1::Source) -> Option<&'static str> {
    match source {
        v1::Source::Unspecified => None,
        v1::Source::Ebpf => Some("ebpf"),
        v1::Source::Proc => Some("proc"),
        v1::Source::EbpfQuiet => Some("ebpf_quiet"),
    }
}

fn time_text(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let time = time?;
    jiff::Timestamp::new(time.seconds, time.nanos)
        .ok()
        .map(|time| format!("{time:.9}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(snapshot: &v1::Snapshot) -> Vec<Value> {
        let mut out = Vec::new();
        json_lines(&mut out, &mut Executables::default(), snapshot).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_says_who_it_is_and_how_it_was_measured() {
        let process_id = vec![7; 16];
        let snapshot = v1::Snapshot {
            boot_id: vec![1; 16],
            source: v1::Source::Ebpf.into(),
            samples: vec![
                v1::ProcessSample {
                    process_id: process_id.clone(),
                    pid: 12,
                    start_boottime_ns: 5_000,
                    parent_start_boottime_ns: 4_000,
                    exited: true,
                    ..Default::default()
                },
                v1::ProcessSample {
                    pid: 1,
                    source: v1::Source::Proc.into(),
                    ..Default::default()
                },
                v1::ProcessSample {
                    name: "[lost ends]".to_owned(),
                    start_time: Some(prost_types::Timestamp::default()),
                    ..Default::default()
                },
            ],
            exits: vec![v1::ProcessExit {
                process_id: process_id.clone(),
                oom_killed: Some(true),
                ..Default::default()
            }],
            processes: vec![v1::ProcessInfo {
                process_id,
                exe: "/bin/x".to_owned(),
                cmdline: "x --password=********".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let lines = lines(&snapshot);
        let check = |line: usize, name: &str, value: Value| {
            assert_eq!(lines[line].get(name), Some(&value), "line {line}: {name}");
        };
        for (name, value) in [
            ("source", json!("ebpf")),
            ("boot_id", json!("01010101-0101-0101-0101-010101010101")),
            ("start_boottime_ns", json!(5_000)),
            ("parent_start_boottime_ns", json!(4_000)),
            ("exe", json!("/bin/x")),
            ("cmdline", json!("x --password=********")),
            ("oom_killed", json!(true)),
        ] {
            check(0, name, value);
        }
        check(1, "source", json!("proc"));
        for name in ["parent_start_boottime_ns", "cmdline", "oom_killed", "cgroup_id"] {
            check(1, name, Value::Null);
        }
        for name in ["start_boottime_ns", "start_time"] {
            check(2, name, Value::Null);
        }
    }
}
