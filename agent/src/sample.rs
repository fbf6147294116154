//! What the fold found → rows, exits and names in the words of the wire.

use procscope_agent_common::{OverflowSlot, ProcessKey, WAIT_BUCKETS};
use procscope_proto::v1;

use crate::{
    drain::WaitsByProcess,
    fold::{Exit, FoldedProcess, Memory, Place, Row},
    identity::{Identities, Identity, process_id},
    names::{container_id, pod_uid},
    rows::Rows,
};

/// The instant that samples belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// Nanoseconds since 1970 by the wall clock.
    pub wall_ns: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boottime_ns: u64,
}

impl Instant {
    /// The wall clock's lead over the time since boot, at this instant.
    #[must_use]
    pub fn wall_minus_boot_ns(self) -> u64 {
        self.wall_ns.saturating_sub(self.boottime_ns)
    }
}

/// What the kernel's figures mean on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Bytes of a page.
    pub page_size: u64,
    /// It counts bytes and calls of read(2) and write(2).
    pub counts_io: bool,
    /// It counts bytes from and to storage.
    pub counts_disk_io: bool,
}

impl Units {
    fn counts_io_of(self, process: &FoldedProcess) -> bool {
        if process.facts.from_proc {
            process.standing.is_some_and(|standing| standing.io_read)
        } else {
            self.counts_io
        }
    }

    fn counts_disk_io_of(self, process: &FoldedProcess) -> bool {
        if process.facts.from_proc {
            self.counts_io_of(process)
        } else {
            self.counts_disk_io
        }
    }
}

/// Set for a process that was not measured as its snapshot was.
fn source(process: &FoldedProcess) -> i32 {
    let source = if process.facts.from_proc {
        v1::Source::Proc
    } else {
        v1::Source::Unspecified
    };
    source.into()
}

/// Exits and names of one interval, and sums over its rows.
#[derive(Debug, Default)]
pub struct Told {
    /// One for each process that ended.
    pub exits: Vec<v1::ProcessExit>,
    /// Names that are new.
    pub infos: Vec<v1::ProcessInfo>,
    /// Processes alive at the end of the interval.
    pub processes: u32,
    /// Their threads.
    pub threads: u32,
    /// CPU time of processes, nanoseconds.
    pub process_ns: u64,
    /// CPU time of kernel threads, nanoseconds.
    pub kthread_ns: u64,
    /// What one process, the agent, has used and holds: nanoseconds and bytes.
    pub own: (u64, u64),
}

/// Tells of each process of an interval, and forgets the names of those that ended.
pub struct Teller<'a> {
    /// What people call them.
    pub identities: &'a mut Identities,
    /// Where rows are put.
    pub rows: &'a mut Rows,
    /// Run-queue waits by length, where they are counted.
    pub waits: &'a WaitsByProcess,
    /// What the kernel's figures mean.
    pub units: Units,
    /// The end of the interval.
    pub now: Instant,
    /// What was told so far.
    pub told: Told,
}

impl Teller<'_> {
    /// Tells of one process, and says where its row is.
    pub fn tell(&mut self, row: Row<'_>) -> Place {
        match row {
            Row::Same(place, threads) => {
                self.told.processes += 1;
                self.told.threads = self.told.threads.saturating_add(threads);
                self.rows.again(place)
            }
            Row::Anew(process) => self.tell_anew(process),
        }
    }

    fn tell_anew(&mut self, process: &FoldedProcess) -> Place {
        let told = &mut self.told;
        let (identity, new) = self
            .identities
            .of(process.key, &process.facts, self.now.wall_minus_boot_ns());
        if new {
            told.infos.push(info(process, &identity));
        }
        if let Some(end) = process.exit {
            told.exits.push(exit(process, end, &identity, self.units));
            self.identities.forget(process.key);
        } else {
            told.processes += 1;
        }
        told.threads = told.threads.saturating_add(process.threads);
        if process.facts.kernel_thread {
            told.kthread_ns += process.delta.cpu_time_ns;
        } else {
            told.process_ns += process.delta.cpu_time_ns;
        }
        if process.key.tgid == std::process::id() {
            let rss_pages = process.memory.map_or(0, Memory::rss_pages);
            told.own = (
                process.delta.cpu_time_ns,
                rss_pages.saturating_mul(self.units.page_size),
            );
        }
        let waits = self.waits.get(&process.key);
        let units = self.units;
        self.rows
            .add(|texts| sample(process, &identity, waits, units, texts))
    }
}

/// A row in our words. `texts`: an older one, whose memory is used again.
fn sample(
    process: &FoldedProcess,
    identity: &Identity,
    waits: Option<&[u64; WAIT_BUCKETS]>,
    units: Units,
    texts: v1::ProcessSample,
) -> v1::ProcessSample {
    let bytes = |pages: Option<u64>| pages.map(|pages| pages.saturating_mul(units.page_size));
    let memory = |kind: fn(Memory) -> u64| bytes(process.memory.map(kind));
    let io = |count: u64| units.counts_io_of(process).then_some(count);
    let disk_io = |count: u64| units.counts_disk_io_of(process).then_some(count);
    let scheduler = |count: u64| (!process.facts.from_proc).then_some(count);
    v1::ProcessSample {
        process_id: copied(texts.process_id, &identity.process_id),
        exec_generation: process.facts.exec_generation,
        pid: process.key.tgid,
        parent_pid: parent_pid(process),
        start_boottime_ns: process.key.start_boottime_ns,
        start_time: Some(timestamp(identity.start_wall_ns)),
        name: written(texts.name, &identity.name),
        uid: process.facts.uid,
        container_id: written(texts.container_id, &identity.container_id),
        pod_uid: written(texts.pod_uid, &identity.pod_uid),
        kernel_thread: process.facts.kernel_thread,
        exited: process.exit.is_some(),
        cpu_time_ns: process.totals.cpu_time_ns,
        cpu_time_ns_delta: process.delta.cpu_time_ns,
        rss_bytes: memory(Memory::rss_pages),
        peak_rss_bytes: bytes(process.peak_rss_pages),
        lifetime_peak_rss_bytes: bytes(process.lifetime_peak_rss_pages),
        threads: process.threads,
        runqueue_ns_delta: scheduler(process.delta.runqueue_ns),
        voluntary_switches_delta: scheduler(process.delta.voluntary_switches),
        involuntary_switches_delta: scheduler(process.delta.involuntary_switches),
        minor_faults_delta: Some(process.delta.minor_faults),
        major_faults_delta: Some(process.delta.major_faults),
        first_seen: process.first_seen,
        source: source(process),
        user_time_ns_delta: Some(process.split_delta.user_ns),
        system_time_ns_delta: Some(process.split_delta.system_ns),
        ended_threads_cpu_time_ns_delta: scheduler(process.ended_threads_cpu_time_ns),
        runqueue_waits_delta: scheduler(process.delta.runqueue_waits),
        rss_anon_bytes: memory(|memory| memory.anon_pages),
        rss_file_bytes: memory(|memory| memory.file_pages),
        rss_shmem_bytes: memory(|memory| memory.shmem_pages),
        swap_bytes: memory(|memory| memory.swap_pages),
        virtual_bytes: memory(|memory| memory.virtual_pages),
        open_file_descriptors: process.standing.and_then(|standing| standing.open_files),
        open_file_descriptor_limit: process.standing.and_then(|standing| standing.open_files_limit),
        read_bytes_delta: io(process.delta.read_bytes),
        written_bytes_delta: io(process.delta.written_bytes),
        read_operations_delta: io(process.delta.read_operations),
        write_operations_delta: io(process.delta.write_operations),
        disk_read_bytes_delta: disk_io(process.delta.disk_read_bytes),
        disk_written_bytes_delta: disk_io(process.delta.disk_written_bytes),
        state: process.standing.map_or_else(String::new, |standing| {
            written(texts.state, standing.state.encode_utf8(&mut [0; 4]))
        }),
        namespace_pid: process.facts.namespace_pid,
        parent_start_boottime_ns: parent_start(process),
        cgroup_id: process.facts.cgroup_id,
        runqueue_wait_counts: waits
            .map_or_else(Vec::new, |counts| copied(texts.runqueue_wait_counts, counts)),
    }
}

/// The same values in memory that was had before.
fn copied<T: Copy>(mut memory: Vec<T>, values: &[T]) -> Vec<T> {
    memory.clear();
    memory.extend_from_slice(values);
    memory
}

/// The same text in memory that was had before.
fn written(mut memory: String, text: &str) -> String {
    memory.clear();
    memory.push_str(text);
    memory
}

/// The name of the row that keeps the sums exact when ends of threads were lost.
pub const LOST_ENDS: &str = "[lost ends]";

/// One row for all threads of a control group whose ends were lost and that nobody knew: what they used since
/// `before`. It has no process: its number is 0. `cgroup`: the path of the group; empty: not known.
#[must_use]
pub fn lost_ends(
    boot_id: [u8; 16],
    cgroup_id: u64,
    cgroup: &str,
    before: OverflowSlot,
    now: OverflowSlot,
) -> v1::ProcessSample {
    let delta = before
        .totals
        .combine(now.totals, |before, now| now.saturating_sub(before));
    v1::ProcessSample {
        process_id: process_id(boot_id, ProcessKey::new(0, cgroup_id)).to_vec(),
        name: LOST_ENDS.to_owned(),
        start_time: Some(timestamp(0)),
        container_id: container_id(cgroup).unwrap_or_default().to_owned(),
        pod_uid: pod_uid(cgroup).unwrap_or_default(),
        cgroup_id,
        cpu_time_ns: now.totals.cpu_time_ns,
        cpu_time_ns_delta: delta.cpu_time_ns,
        runqueue_ns_delta: Some(delta.runqueue_ns),
        runqueue_waits_delta: Some(delta.runqueue_waits),
        voluntary_switches_delta: Some(delta.voluntary_switches),
        involuntary_switches_delta: Some(delta.involuntary_switches),
        minor_faults_delta: Some(delta.minor_faults),
        major_faults_delta: Some(delta.major_faults),
        ..v1::ProcessSample::default()
    }
}

fn exit(process: &FoldedProcess, end: Exit, identity: &Identity, units: Units) -> v1::ProcessExit {
    let lifetime_ns = end.end_boottime_ns.saturating_sub(process.key.start_boottime_ns);
    // Nobody told of its end: what is known of its life is a part, and a part is not the figure.
    let whole = end.status.is_some() || process.facts.from_proc;
    let io = |count: u64| (whole && units.counts_io_of(process)).then_some(count);
    let disk_io = |count: u64| (whole && units.counts_disk_io_of(process)).then_some(count);
    let scheduler = |count: u64| (end.status.is_some() && !process.facts.from_proc).then_some(count);
    let known = |count: u64| whole.then_some(count);
    // The low seven bits are the signal, the next byte what was given to exit(2).
    let signal = end
        .status
        .map(|status| status & 0x7f)
        .filter(|signal| *signal != 0);
    let code = end
        .status
        .map(|status| (status >> 8) & 0xff)
        .filter(|_| signal.is_none());
    v1::ProcessExit {
        process_id: identity.process_id.to_vec(),
        exec_generation: process.facts.exec_generation,
        pid: process.key.tgid,
        parent_pid: parent_pid(process),
        start_boottime_ns: process.key.start_boottime_ns,
        start_time: Some(timestamp(identity.start_wall_ns)),
        end_time: Some(timestamp(identity.start_wall_ns.saturating_add(lifetime_ns))),
        name: identity.name.clone(),
        uid: process.facts.uid,
        container_id: identity.container_id.clone(),
        pod_uid: identity.pod_uid.clone(),
        lifetime_ns,
        cpu_time_ns: process.life.cpu_time_ns,
        peak_rss_bytes: process
            .lifetime_peak_rss_pages
            .map(|pages| pages.saturating_mul(units.page_size)),
        exit_code: code,
        exit_signal: signal,
        oom_killed: end.oom_killed,
        runqueue_ns: scheduler(process.life.runqueue_ns),
        voluntary_switches: scheduler(process.life.voluntary_switches),
        involuntary_switches: scheduler(process.life.involuntary_switches),
        minor_faults: known(process.life.minor_faults),
        major_faults: known(process.life.major_faults),
        exe: identity.exe.clone(),
        source: source(process),
        user_time_ns: known(process.life_split.user_ns),
        system_time_ns: known(process.life_split.system_ns),
        runqueue_waits: scheduler(process.life.runqueue_waits),
        read_bytes: io(process.life.read_bytes),
        written_bytes: io(process.life.written_bytes),
        read_operations: io(process.life.read_operations),
        write_operations: io(process.life.write_operations),
        disk_read_bytes: disk_io(process.life.disk_read_bytes),
        disk_written_bytes: disk_io(process.life.disk_written_bytes),
        namespace_pid: process.facts.namespace_pid,
        parent_start_boottime_ns: parent_start(process),
    }
}

fn info(process: &FoldedProcess, identity: &Identity) -> v1::ProcessInfo {
    v1::ProcessInfo {
        process_id: identity.process_id.to_vec(),
        exec_generation: process.facts.exec_generation,
        pid: process.key.tgid,
        parent_pid: parent_pid(process),
        start_boottime_ns: process.key.start_boottime_ns,
        start_time: Some(timestamp(identity.start_wall_ns)),
        name: identity.name.clone(),
        exe: identity.exe.clone(),
        cmdline: identity.cmdline.clone(),
        uid: process.facts.uid,
        cgroup: identity.cgroup.clone(),
        container_id: identity.container_id.clone(),
        pod_uid: identity.pod_uid.clone(),
        kernel_thread: process.facts.kernel_thread,
    }
}

fn parent_pid(process: &FoldedProcess) -> u32 {
    process.facts.parent.map_or(0, |parent| parent.tgid)
}

fn parent_start(process: &FoldedProcess) -> u64 {
    process.facts.parent.map_or(0, |parent| parent.start_boottime_ns)
}

/// Nanoseconds since 1970 in the words of the wire.
#[must_use]
pub fn timestamp(wall_ns: u64) -> prost_types::Timestamp {
    const SECOND_NS: u64 = 1_000_000_000;
    prost_types::Timestamp {
        seconds: i64::try_from(wall_ns / SECOND_NS).unwrap_or(i64::MAX),
        nanos: i32::try_from(wall_ns % SECOND_NS).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use procscope_agent_common::{ProcessKey, ThreadTotals};

    use super::*;
    use crate::{
        fold::{CpuSplit, Facts},
        scrub::Cmdline,
    };

    const UNITS: Units = Units {
        page_size: 4096,
        counts_io: true,
        counts_disk_io: false,
    };

    fn ended(status: u32) -> v1::ProcessExit {
        ended_with(Some(status))
    }

    /// `None`: nobody told of the end.
    fn ended_with(status: Option<u32>) -> v1::ProcessExit {
        let process = FoldedProcess {
            key: ProcessKey::new(10, 500),
            facts: Arc::new(Facts {
                comm: b"x".to_vec(),
                ..Facts::default()
            }),
            totals: ThreadTotals::default(),
            life: ThreadTotals {
                cpu_time_ns: 7,
                ..ThreadTotals::default()
            },
            life_split: CpuSplit::default(),
            delta: ThreadTotals::default(),
            split: CpuSplit::default(),
            split_delta: CpuSplit::default(),
            ended_threads_cpu_time_ns: 0,
            memory: None,
            standing: None,
            peak_rss_pages: Some(3),
            lifetime_peak_rss_pages: Some(4),
            threads: 0,
            first_seen: true,
            exit: Some(Exit {
                status,
                end_boottime_ns: 800,
                oom_killed: Some(false),
            }),
        };
        let mut identities = Identities::new("/nonexistent".into(), [0; 16], None, Cmdline::Off);
        let now = Instant {
            wall_ns: 10_000,
            boottime_ns: 1_000,
        };
        let mut teller = Teller {
            identities: &mut identities,
            rows: &mut Rows::default(),
            waits: &WaitsByProcess::default(),
            units: UNITS,
            now,
            told: Told::default(),
        };
        teller.tell(Row::Anew(&process));
        teller.told.exits.remove(0)
    }

    #[test]
    fn an_exit_has_a_code_or_a_signal_never_both() {
        assert_eq!((ended(0).exit_code, ended(0).exit_signal), (Some(0), None));
        assert_eq!(
            (ended(3 << 8).exit_code, ended(3 << 8).exit_signal),
            (Some(3), None)
        );
        assert_eq!((ended(9).exit_code, ended(9).exit_signal), (None, Some(9)));
        // With the bit that says that a core was dumped.
        assert_eq!((ended(0x8b).exit_code, ended(0x8b).exit_signal), (None, Some(11)));
    }

    #[test]
    fn of_a_life_whose_end_nobody_told_only_what_is_certain_is_a_figure() {
        let known = ended(0);
        assert_eq!((known.minor_faults, known.runqueue_waits), (Some(0), Some(0)));
        let lost = ended_with(None);
        assert_eq!(
            (lost.exit_code, lost.exit_signal, lost.cpu_time_ns),
            (None, None, 7)
        );
        for figure in [
            lost.minor_faults,
            lost.major_faults,
            lost.user_time_ns,
            lost.system_time_ns,
            lost.runqueue_ns,
            lost.runqueue_waits,
            lost.voluntary_switches,
            lost.involuntary_switches,
            lost.read_bytes,
            lost.written_bytes,
        ] {
            assert_eq!(figure, None);
        }
    }

    #[test]
    fn start_and_end_lie_a_lifetime_apart_whatever_the_wall_clock_does() {
        let exit = ended(0);
        assert_eq!(exit.lifetime_ns, 300);
        assert_eq!(exit.start_time.unwrap().nanos, 9_500);
        assert_eq!(exit.end_time.unwrap().nanos, 9_800);
        assert_eq!(exit.peak_rss_bytes, Some(4 * 4096));
    }
}
