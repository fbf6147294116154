//! Identities, the iterator's record of a task, and the four events of a life. Times are nanoseconds, start and
//! end times of `CLOCK_BOOTTIME`.

use core::mem::offset_of;

use crate::KernelRecord;

/// Bytes of a command name in the kernel, with its ending zero.
pub const COMM_LEN: usize = 16;
/// Bytes kept of the last part of a control group's path.
pub const CGROUP_NAME_LEN: usize = 104;
/// Bytes kept of the path given to execve(2).
pub const FILENAME_LEN: usize = 256;
/// Bytes kept of the arguments.
pub const ARGUMENTS_LEN: usize = 256;

/// `kind` of a `ForkEvent`.
pub const EVENT_FORK: u32 = 1;
/// `kind` of an `ExecEvent`.
pub const EVENT_EXEC: u32 = 2;
/// `kind` of an `ExitEvent`.
pub const EVENT_EXIT: u32 = 3;
/// `kind` of a `ThreadEndEvent`.
pub const EVENT_THREAD_END: u32 = 4;
/// `kind` of a `ProcessFreedEvent`.
pub const EVENT_PROCESS_FREED: u32 = 5;

/// `kind` of a `TaskRecord`.
pub const WALK_TASK: u32 = 1;
/// `kind` of a `StillRecord`.
pub const WALK_STILL: u32 = 2;
/// `kind` of a `StillThreadRecord`.
pub const WALK_STILL_THREAD: u32 = 3;

/// `Present::flags`: it runs in the kernel only.
pub const TASK_KERNEL_THREAD: u32 = 1;
/// `Present::flags`: it has ended and waits to be reaped.
pub const TASK_ZOMBIE: u32 = 2;
/// `Present::flags`: the memory fields are filled.
pub const TASK_HAS_MM: u32 = 4;

/// `Present::flags`: sampled from /proc for a whole process, not by a program in the kernel: what the scheduler
/// counts for each thread is not filled, nor are group and generation.
pub const TASK_FROM_PROC: u32 = 8;
/// `Present::flags`: with `TASK_FROM_PROC`, the figures of `ioac` are filled.
pub const TASK_PROC_IO: u32 = 16;

/// `Present::flags`: it has ended, its end found no room, and what it used is in the sums of lost ends.
pub const TASK_SUMMED: u32 = 32;

/// Bit of the state that `sched_switch` reports for a thread that leaves its CPU for good (`TASK_DEAD`).
pub const TASK_DEAD_BIT: u32 = 0x80;

/// A process for good: the kernel hands numbers out again, but not with the same start.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Start of the first thread.
    pub start_boottime_ns: u64,
    /// The process, which user space calls its PID.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

impl ProcessKey {
    /// The key of a process.
    #[must_use]
    pub const fn new(tgid: u32, start_boottime_ns: u64) -> Self {
        Self {
            start_boottime_ns,
            tgid,
            reserved: 0,
        }
    }
}

const _: () = assert!(size_of::<ProcessKey>() == 16, "no implicit padding");
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for ProcessKey {}

/// What a thread has used since it started. Every figure only rises.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadTotals {
    /// `se.sum_exec_runtime`, nanoseconds.
    pub cpu_time_ns: u64,
    /// `sched_info.run_delay`: runnable without a CPU, nanoseconds.
    pub runqueue_ns: u64,
    /// `nvcsw`.
    pub voluntary_switches: u64,
    /// `nivcsw`.
    pub involuntary_switches: u64,
    /// `min_flt`.
    pub minor_faults: u64,
    /// `maj_flt`.
    pub major_faults: u64,
    /// `sched_info.pcount`: times it was given a CPU, each after a wait of any length.
    pub runqueue_waits: u64,
    /// `utime`: ticks found in user space, nanoseconds. Only the ratio to `system_ticks_ns` counts.
    pub user_ticks_ns: u64,
    /// `stime`: ticks found in the kernel, nanoseconds.
    pub system_ticks_ns: u64,
    /// `ioac.rchar`: bytes by read(2) and its kin, from wherever they came. The `ioac` fields are 0 on a kernel
    /// that does not count them.
    pub read_bytes: u64,
    /// `ioac.wchar`: bytes by write(2) and its kin.
    pub written_bytes: u64,
    /// `ioac.syscr`: calls of read(2) and its kin.
    pub read_operations: u64,
    /// `ioac.syscw`: calls of write(2) and its kin.
    pub write_operations: u64,
    /// `ioac.read_bytes`: bytes fetched from storage.
    pub disk_read_bytes: u64,
    /// `ioac.write_bytes`: bytes sent towards storage.
    pub disk_written_bytes: u64,
}

impl ThreadTotals {
    /// Field by field: `of(self's, other's)`.
    #[must_use]
    pub fn combine(self, other: Self, mut of: impl FnMut(u64, u64) -> u64) -> Self {
        Self {
            cpu_time_ns: of(self.cpu_time_ns, other.cpu_time_ns),
            runqueue_ns: of(self.runqueue_ns, other.runqueue_ns),
            voluntary_switches: of(self.voluntary_switches, other.voluntary_switches),
            involuntary_switches: of(self.involuntary_switches, other.involuntary_switches),
            minor_faults: of(self.minor_faults, other.minor_faults),
            major_faults: of(self.major_faults, other.major_faults),
            runqueue_waits: of(self.runqueue_waits, other.runqueue_waits),
            user_ticks_ns: of(self.user_ticks_ns, other.user_ticks_ns),
            system_ticks_ns: of(self.system_ticks_ns, other.system_ticks_ns),
            read_bytes: of(self.read_bytes, other.read_bytes),
            written_bytes: of(self.written_bytes, other.written_bytes),
            read_operations: of(self.read_operations, other.read_operations),
            write_operations: of(self.write_operations, other.write_operations),
            disk_read_bytes: of(self.disk_read_bytes, other.disk_read_bytes),
            disk_written_bytes: of(self.disk_written_bytes, other.disk_written_bytes),
        }
    }
}

const _: () = assert!(size_of::<ThreadTotals>() == 15 * 8, "no implicit padding");
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for ThreadTotals {}

/// What others can change of a process while it sleeps, or have to say of it: read anew by each walk, at the first
/// thread of a process (memory also at another one when the first has already gone).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// Resident pages backed by files.
    pub file_pages: u64,
    /// Anonymous resident pages.
    pub anon_pages: u64,
    /// Resident pages of shared memory.
    pub shmem_pages: u64,
    /// Pages swapped out.
    pub swap_pages: u64,
    /// `hiwater_rss`: the greatest resident set the kernel noted, in pages; the current one may be above it.
    pub hiwater_pages: u64,
    /// Virtual size in pages.
    pub virtual_pages: u64,
    /// Control group, by the id that `CGROUP` reading chose.
    pub cgroup_id: u64,
    /// Open file descriptors it may have (`RLIMIT_NOFILE`, soft).
    pub open_files_limit: u64,
    /// `TASK_…` bits.
    pub flags: u32,
    /// `__state` and `exit_state` of the first thread, one over the other as /proc/PID/stat does.
    pub state: u32,
    /// Open file descriptors; `OPEN_FILES_UNKNOWN` when they were not counted, `OPEN_FILES_SAME` when nobody can
    /// have opened or closed one since the last walk.
    pub open_files: u32,
    /// Zero.
    pub reserved: u32,
    /// Name of the command, ended by zero.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(
    size_of::<Present>() == 8 * 8 + 16 + COMM_LEN,
    "no implicit padding"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for Present {}

/// One task as the iterator found it. `ended` and `now` are filled for the first thread of a process only (and the
/// memory in `now` for another thread when the first has already gone), like what follows them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct TaskRecord {
    /// `WALK_TASK`.
    pub kind: u32,
    /// This thread.
    pub tid: u32,
    /// Its process.
    pub process: ProcessKey,
    /// Start of this thread.
    pub start_boottime_ns: u64,
    /// What others can change of it.
    pub now: Present,
    /// What this thread has used.
    pub totals: ThreadTotals,
    /// What threads of the process that are gone have used (`signal_struct`): the past at attach, and the end of
    /// what is a zombie. Filled by the first walk that finds this thread, and for a zombie.
    pub ended: ThreadTotals,
    /// The parent.
    pub parent: ProcessKey,
    /// Rises by one with each exec along the ancestry.
    pub exec_generation: u32,
    /// Real user id in the first user namespace.
    pub uid: u32,
    /// Threads of the process.
    pub threads: u32,
    /// The process's number in its own pid namespace.
    pub namespace_pid: u32,
}

const _: () = assert!(
    size_of::<TaskRecord>() == 32 + size_of::<Present>() + 15 * 8 * 2 + 16 + 16,
    "no implicit padding"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for TaskRecord {}

/// The first thread of a process that has not run since the last walk told of it: what it has used, and whatever
/// it alone can change, is as it was. The beginning of a `TaskRecord`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct StillRecord {
    /// `WALK_STILL`.
    pub kind: u32,
    /// This thread.
    pub tid: u32,
    /// Its process.
    pub process: ProcessKey,
    /// Start of this thread.
    pub start_boottime_ns: u64,
    /// What others can change of it.
    pub now: Present,
}

const _: () = assert!(
    offset_of!(StillRecord, now) == offset_of!(TaskRecord, now)
        && size_of::<StillRecord>() == 32 + size_of::<Present>(),
    "no implicit padding, and the beginning of the whole record"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for StillRecord {}

/// Another thread that has not run since the last walk told of it. The beginning of a `TaskRecord`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct StillThreadRecord {
    /// `WALK_STILL_THREAD`.
    pub kind: u32,
    /// This thread.
    pub tid: u32,
    /// Its process.
    pub process: ProcessKey,
    /// Start of this thread.
    pub start_boottime_ns: u64,
}

const _: () = assert!(
    size_of::<StillThreadRecord>() == offset_of!(TaskRecord, now),
    "no implicit padding, and the beginning of the whole record"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for StillThreadRecord {}

/// `Present::open_files`: not counted.
pub const OPEN_FILES_UNKNOWN: u32 = u32::MAX;
/// `Present::open_files`: as many as the last walk told.
pub const OPEN_FILES_SAME: u32 = u32::MAX - 1;

/// A process was made.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ForkEvent {
    /// `EVENT_FORK`.
    pub kind: u32,
    /// Real user id.
    pub uid: u32,
    /// The new process.
    pub process: ProcessKey,
    /// Who made it.
    pub parent: ProcessKey,
    /// Exec generation, as in `TaskRecord`.
    pub exec_generation: u32,
    /// The process's number in its own pid namespace.
    pub namespace_pid: u32,
    /// Control group.
    pub cgroup_id: u64,
    /// Name of the command, ended by zero.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<ForkEvent>() == 8 + 32 + 16 + 16, "no implicit padding");
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for ForkEvent {}

/// A process became another program.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ExecEvent {
    /// `EVENT_EXEC`.
    pub kind: u32,
    /// The tid of the thread that called execve(2), before it took over the first thread's.
    pub old_tid: u32,
    /// The process.
    pub process: ProcessKey,
    /// The parent.
    pub parent: ProcessKey,
    /// Control group.
    pub cgroup_id: u64,
    /// Exec generation, as in `TaskRecord`.
    pub exec_generation: u32,
    /// Real user id.
    pub uid: u32,
    /// Bytes of `arguments` that are filled.
    pub arguments_len: u32,
    /// Greatest resident set that the thread saw in this epoch before it called execve, in pages. 0: nothing.
    pub peak_rss_pages: u32,
    /// Name of the command, ended by zero.
    pub comm: [u8; COMM_LEN],
    /// Last part of the control group's path, ended by zero.
    pub cgroup_name: [u8; CGROUP_NAME_LEN],
    /// What was given to execve(2), ended by zero.
    pub filename: [u8; FILENAME_LEN],
    /// Arguments, each ended by zero.
    pub arguments: [u8; ARGUMENTS_LEN],
}

const _: () = assert!(
    size_of::<ExecEvent>() == 8 + 32 + 8 + 16 + COMM_LEN + CGROUP_NAME_LEN + FILENAME_LEN + ARGUMENTS_LEN,
    "no implicit padding"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for ExecEvent {}

/// The last thread of a process began to exit. Its CPU time is not final yet: `ThreadEndEvent` has that.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ExitEvent {
    /// `EVENT_EXIT`.
    pub kind: u32,
    /// As wait4(2) reports it: code x 256, or the signal.
    pub exit_status: u32,
    /// The process.
    pub process: ProcessKey,
    /// The parent.
    pub parent: ProcessKey,
    /// When.
    pub end_boottime_ns: u64,
    /// Control group.
    pub cgroup_id: u64,
    /// Resident pages; meaningful when `has_mm`.
    pub rss_pages: u64,
    /// `hiwater_rss` in pages; meaningful when `has_mm`.
    pub hiwater_pages: u64,
    /// What this thread and those that are gone have used up to here, nanoseconds: the process used no less.
    pub cpu_time_ns: u64,
    /// Exec generation, as in `TaskRecord`.
    pub exec_generation: u32,
    /// Real user id.
    pub uid: u32,
    /// 1: the process still had its memory when it was read.
    pub has_mm: u32,
    /// 1: the OOM killer chose it.
    pub oom_killed: u32,
    /// The thread that exits last.
    pub tid: u32,
    /// Threads of the process that are not reaped yet, this one included.
    pub threads: u32,
    /// Name of the command, ended by zero.
    pub comm: [u8; COMM_LEN],
    /// Last part of the control group's path, ended by zero.
    pub cgroup_name: [u8; CGROUP_NAME_LEN],
}

const _: () = assert!(
    size_of::<ExitEvent>() == 8 + 32 + 40 + 24 + COMM_LEN + CGROUP_NAME_LEN,
    "no implicit padding"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for ExitEvent {}

/// A thread left its CPU for the last time: its totals are final.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ThreadEndEvent {
    /// `EVENT_THREAD_END`.
    pub kind: u32,
    /// This thread.
    pub tid: u32,
    /// Its process.
    pub process: ProcessKey,
    /// Start of this thread.
    pub start_boottime_ns: u64,
    /// What it used.
    pub totals: ThreadTotals,
}

const _: () = assert!(
    size_of::<ThreadEndEvent>() == 8 + 16 + 8 + 15 * 8,
    "no implicit padding"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for ThreadEndEvent {}

/// The first thread of a process is freed, which is the last of it. Told in quiet mode alone.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ProcessFreedEvent {
    /// `EVENT_PROCESS_FREED`.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// The process.
    pub process: ProcessKey,
    /// What all its threads have used, by the kernel's sum over them (`signal_struct`): without run-queue waits, and
    /// without the last microseconds of a thread that was not the first.
    pub totals: ThreadTotals,
}

const _: () = assert!(
    size_of::<ProcessFreedEvent>() == 8 + 16 + 15 * 8,
    "no implicit padding"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for ProcessFreedEvent {}
