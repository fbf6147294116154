//! Rows of processes: samples, exits, descriptions.

use std::{collections::HashSet, sync::Arc};

use procscope_proto::v1;

use super::{Checked, Refusal, at_most, cpu_time, display_time, in_interval, memory, text, time, uuid, word};
use crate::model::{ProcessExit, ProcessIdentity, ProcessInfo, ProcessSample, Source};

/// Lengths that waits for a CPU are counted by.
const WAIT_COUNTS_MAX: usize = 64;

/// The kernel's own limit of threads (`PID_MAX_LIMIT`).
const THREADS_MAX: u32 = 4 << 20;

/// The letters of /proc/PID/stat.
const STATES: [&str; 9] = ["R", "S", "D", "T", "t", "Z", "X", "I", "P"];

/// The kernel's own limit of open files of a process (`sysctl_nr_open_max`).
const OPEN_FILE_DESCRIPTORS_MAX: u32 = i32::MAX.unsigned_abs();

/// The words of one snapshot, each kept once: hundreds of processes have some tens of names between them.
#[derive(Debug, Default)]
pub(super) struct Words {
    known: HashSet<Arc<str>>,
    empty: Arc<str>,
}

impl Words {
    fn keep(&mut self, word: String) -> Arc<str> {
        if word.is_empty() {
            return Arc::clone(&self.empty);
        }
        if let Some(known) = self.known.get(word.as_str()) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.known.insert(Arc::clone(&word));
        word
    }
}

/// The fields that samples, exits and descriptions have in common.
macro_rules! process_identity {
    ($row:ident, $words:ident) => {
        ProcessIdentity {
            process_id: uuid("process_id", &$row.process_id)?,
            exec_generation: $row.exec_generation,
            pid: pid($row.pid)?,
            parent_pid: $row.parent_pid,
            start_boottime_ns: $row.start_boottime_ns,
            start_time_ms: display_time($row.start_time),
            name: $words.keep(word("name", $row.name)?),
            uid: $row.uid,
            container_id: $words.keep(word("container_id", $row.container_id)?),
            pod_uid: $words.keep(word("pod_uid", $row.pod_uid)?),
        }
    };
}

pub(super) fn sample(row: v1::ProcessSample, interval_ns: u64, words: &mut Words) -> Checked<ProcessSample> {
    let cpu = |field, ns| cpu_time(field, ns, interval_ns);
    cpu("cpu_time_ns_delta", Some(row.cpu_time_ns_delta))?;
    // A total of 0 is none: the wire does not tell it from one that was never set.
    if row.cpu_time_ns > 0 {
        let why = "is more than the process used in all its life (cpu_time_ns)";
        at_most(
            "cpu_time_ns_delta",
            Some(row.cpu_time_ns_delta),
            row.cpu_time_ns,
            why,
        )?;
    }
    let (user, system) = (row.user_time_ns_delta, row.system_time_ns_delta);
    let ended = row.ended_threads_cpu_time_ns_delta;
    Ok(ProcessSample {
        identity: process_identity!(row, words),
        kernel_thread: row.kernel_thread,
        exited: row.exited,
        first_seen: row.first_seen,
        cpu_time_ns: row.cpu_time_ns,
        cpu_time_ns_delta: row.cpu_time_ns_delta,
        rss_bytes: memory("rss_bytes", row.rss_bytes)?,
        peak_rss_bytes: memory("peak_rss_bytes", row.peak_rss_bytes)?,
        lifetime_peak_rss_bytes: memory("lifetime_peak_rss_bytes", row.lifetime_peak_rss_bytes)?,
        threads: threads(row.threads)?,
        runqueue_ns_delta: at_most(
            "runqueue_ns_delta",
            row.runqueue_ns_delta,
            interval_ns.saturating_mul(THREADS_MAX.into()),
            "is more than all threads a kernel can have wait in the interval",
        )?,
        voluntary_switches_delta: in_interval("voluntary_switches_delta", row.voluntary_switches_delta)?,
        involuntary_switches_delta: in_interval(
            "involuntary_switches_delta",
            row.involuntary_switches_delta,
        )?,
        minor_faults_delta: in_interval("minor_faults_delta", row.minor_faults_delta)?,
        major_faults_delta: in_interval("major_faults_delta", row.major_faults_delta)?,
        source: source(row.source)?,
        user_time_ns_delta: cpu("user_time_ns_delta", user)?,
        system_time_ns_delta: cpu("system_time_ns_delta", system)?,
        ended_threads_cpu_time_ns_delta: cpu("ended_threads_cpu_time_ns_delta", ended)?,
        runqueue_waits_delta: in_interval("runqueue_waits_delta", row.runqueue_waits_delta)?,
        runqueue_wait_counts: wait_counts(row.runqueue_wait_counts)?,
        rss_anon_bytes: memory("rss_anon_bytes", row.rss_anon_bytes)?,
        rss_file_bytes: memory("rss_file_bytes", row.rss_file_bytes)?,
        rss_shmem_bytes: memory("rss_shmem_bytes", row.rss_shmem_bytes)?,
        swap_bytes: memory("swap_bytes", row.swap_bytes)?,
        virtual_bytes: memory("virtual_bytes", row.virtual_bytes)?,
        open_file_descriptors: at_most(
            "open_file_descriptors",
            row.open_file_descriptors,
            OPEN_FILE_DESCRIPTORS_MAX,
            "is more than a process may have",
        )?,
        open_file_descriptor_limit: row.open_file_descriptor_limit,
        read_bytes_delta: in_interval("read_bytes_delta", row.read_bytes_delta)?,
        written_bytes_delta: in_interval("written_bytes_delta", row.written_bytes_delta)?,
        read_operations_delta: in_interval("read_operations_delta", row.read_operations_delta)?,
        write_operations_delta: in_interval("write_operations_delta", row.write_operations_delta)?,
        disk_read_bytes_delta: in_interval("disk_read_bytes_delta", row.disk_read_bytes_delta)?,
        disk_written_bytes_delta: in_interval("disk_written_bytes_delta", row.disk_written_bytes_delta)?,
        state: state(&row.state)?,
        namespace_pid: row.namespace_pid,
        parent_start_boottime_ns: known(row.parent_start_boottime_ns),
        cgroup_id: known(row.cgroup_id),
    })
}

pub(super) fn exit(row: v1::ProcessExit, received_at_ms: i64, words: &mut Words) -> Checked<ProcessExit> {
    Ok(ProcessExit {
        identity: process_identity!(row, words),
        end_time_ms: time("end_time", row.end_time, received_at_ms)?,
        exe: text("exe", row.exe)?,
        lifetime_ns: row.lifetime_ns,
        cpu_time_ns: row.cpu_time_ns,
        peak_rss_bytes: memory("peak_rss_bytes", row.peak_rss_bytes)?,
        exit_code: row.exit_code,
        exit_signal: row.exit_signal,
        oom_killed: row.oom_killed,
        runqueue_ns: row.runqueue_ns,
        voluntary_switches: row.voluntary_switches,
        involuntary_switches: row.involuntary_switches,
        minor_faults: row.minor_faults,
        major_faults: row.major_faults,
        source: source(row.source)?,
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
        parent_start_boottime_ns: known(row.parent_start_boottime_ns),
    })
}

pub(super) fn info(row: v1::ProcessInfo, words: &mut Words) -> Checked<ProcessInfo> {
    Ok(ProcessInfo {
        identity: process_identity!(row, words),
        exe: text("exe", row.exe)?,
        cmdline: text("cmdline", row.cmdline)?,
        cgroup: text("cgroup", row.cgroup)?,
        kernel_thread: row.kernel_thread,
    })
}

/// The idle task alone is number 0, and it is no process.
fn pid(pid: u32) -> Checked<u32> {
    if pid == 0 {
        return Err(Refusal::new("pid", "is 0, which no process has"));
    }
    Ok(pid)
}

fn threads(threads: u32) -> Checked<u32> {
    let why = "is more than all threads a kernel can have";
    at_most("threads", Some(threads), THREADS_MAX, why).map(|_within| threads)
}

/// How a row was measured; `None`: as its snapshot was.
fn source(source: i32) -> Checked<Option<Source>> {
    match v1::Source::try_from(source) {
        Ok(source) => Ok(super::source(source)),
        Err(_unknown) => Err(Refusal::new("source", "is not one that this collector knows")),
    }
}

fn wait_counts(counts: Vec<u64>) -> Checked<Vec<u64>> {
    let field = "runqueue_wait_counts";
    if counts.len() > WAIT_COUNTS_MAX {
        return Err(Refusal::new(
            field,
            format!("has {} lengths, more than {WAIT_COUNTS_MAX}", counts.len()),
        ));
    }
    for count in &counts {
        in_interval(field, Some(*count))?;
    }
    Ok(counts)
}

fn state(state: &str) -> Checked<&'static str> {
    if state.is_empty() {
        return Ok("");
    }
    let known = STATES.into_iter().find(|letter| *letter == state);
    known.ok_or_else(|| Refusal::new("state", format!("is none of the letters {}", STATES.concat())))
}

/// What is 0 on the wire when nobody knows.
fn known(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}
