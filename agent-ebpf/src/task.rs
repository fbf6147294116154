//! The one file that reads `task_struct` and what hangs on it, but for `mm.rs`. Kernels it knows: 6.1 and later.

use aya_ebpf::{
    Global,
    helpers::{bpf_probe_read_kernel, generated::bpf_probe_read_kernel_str},
    programs::BtfTracePointContext,
};
use procscope_agent_common::{COMM_LEN, OPEN_FILES_UNKNOWN, ProcessKey, ThreadTotals};

use crate::members::{MISSING, member, members, offsets};
pub(crate) use crate::mm::Mm;

offsets! {
    TASK_PID TASK_TGID TASK_FLAGS TASK_MM TASK_EXIT_STATE TASK_EXIT_CODE TASK_REAL_PARENT TASK_GROUP_LEADER
    TASK_START_BOOTTIME TASK_SUM_EXEC_RUNTIME TASK_EXEC_START TASK_RUN_DELAY TASK_NVCSW TASK_NIVCSW
    TASK_MIN_FLT TASK_MAJ_FLT TASK_CRED TASK_COMM TASK_SIGNAL TASK_SELF_EXEC_ID TASK_CGROUPS
    SIGNAL_LIVE SIGNAL_NR_THREADS SIGNAL_GROUP_EXIT_CODE SIGNAL_FLAGS SIGNAL_NVCSW SIGNAL_NIVCSW
    SIGNAL_MIN_FLT SIGNAL_MAJ_FLT SIGNAL_SUM_SCHED_RUNTIME SIGNAL_OOM_MM
    CRED_UID CSS_SET_DFL_CGRP CSS_SET_SUBSYS CSS_CGROUP CGROUP_KN KN_ID KN_NAME BINPRM_FILENAME
    TASK_PCOUNT TASK_UTIME TASK_STIME TASK_STATE TASK_THREAD_PID TASK_FILES TASK_IO_CHARS TASK_IO_DISK
    SIGNAL_UTIME SIGNAL_STIME SIGNAL_NOFILE SIGNAL_IO_CHARS SIGNAL_IO_DISK
    TASK_ON_CPU FILES_COUNT PID_LEVEL PID_NUMBERS FILES_FDT FDTABLE_MAX_FDS FDTABLE_OPEN_FDS
}

/// Words of open descriptors that are counted: 65,536 descriptors. A process with a larger table shows no number.
const OPEN_FILES_WORDS_MAX: u32 = 1024;

/// `PF_KTHREAD`.
const PF_KTHREAD: u32 = 0x0020_0000;
/// `SIGNAL_GROUP_EXIT`.
const SIGNAL_GROUP_EXIT: u32 = 0x4;

/// Where a struct keeps what a thread, or all ended threads of a process, have used.
struct TotalsOffsets {
    cpu_time: &'static Global<u32>,
    voluntary_switches: &'static Global<u32>,
    involuntary_switches: &'static Global<u32>,
    minor_faults: &'static Global<u32>,
    major_faults: &'static Global<u32>,
    user_ticks: &'static Global<u32>,
    system_ticks: &'static Global<u32>,
    io_chars: &'static Global<u32>,
    io_disk: &'static Global<u32>,
}

/// All that a struct keeps of them. The run queue is left to the caller.
///
/// # Safety
/// As for `member`, with each offset.
#[inline(always)]
unsafe fn totals(base: *const u8, at: &TotalsOffsets) -> ThreadTotals {
    let (mut chars, mut disk) = ([0; 4], [0; 2]);
    if at.io_chars.load() != MISSING {
        // SAFETY: as promised by the caller: `rchar, wchar, syscr, syscw`.
        chars = unsafe { member(base, at.io_chars) };
    }
    if at.io_disk.load() != MISSING {
        // SAFETY: as promised by the caller: `read_bytes, write_bytes`.
        disk = unsafe { member(base, at.io_disk) };
    }
    // SAFETY: as promised by the caller.
    unsafe {
        ThreadTotals {
            cpu_time_ns: member(base, at.cpu_time),
            runqueue_ns: 0,
            voluntary_switches: member(base, at.voluntary_switches),
            involuntary_switches: member(base, at.involuntary_switches),
            minor_faults: member(base, at.minor_faults),
            major_faults: member(base, at.major_faults),
            runqueue_waits: 0,
            user_ticks_ns: member(base, at.user_ticks),
            system_ticks_ns: member(base, at.system_ticks),
            read_bytes: chars[0],
            written_bytes: chars[1],
            read_operations: chars[2],
            write_operations: chars[3],
            disk_read_bytes: disk[0],
            disk_written_bytes: disk[1],
        }
    }
}

/// A `task_struct`.
#[derive(Clone, Copy)]
pub(crate) struct Task(*const u8);

impl Task {
    /// The argument of a tracepoint.
    #[inline(always)]
    pub(crate) fn from_arg(ctx: &BtfTracePointContext, n: usize) -> Self {
        Self(ctx.arg::<*const u8>(n))
    }

    /// A pointer that the kernel typed.
    #[inline(always)]
    pub(crate) const fn from_ptr(task: *const u8) -> Self {
        Self(task)
    }

    /// The pointer itself.
    #[inline(always)]
    pub(crate) const fn as_ptr(self) -> *const u8 {
        self.0
    }

    members! {
        /// The thread.
        tid: u32 = TASK_PID,
        /// The process.
        tgid: u32 = TASK_TGID,
        flags: u32 = TASK_FLAGS,
        exit_state: u32 = TASK_EXIT_STATE,
        exit_code: u32 = TASK_EXIT_CODE,
        /// Start of the thread by `CLOCK_BOOTTIME`.
        start_boottime_ns: u64 = TASK_START_BOOTTIME,
        cpu_time_ns: u64 = TASK_SUM_EXEC_RUNTIME,
        /// When it last began to run or was last accounted, by the runqueue's task clock.
        exec_start_ns: u64 = TASK_EXEC_START,
        runqueue_ns: u64 = TASK_RUN_DELAY,
        /// Times that it was given a CPU.
        runqueue_waits: u64 = TASK_PCOUNT,
        comm: [u8; COMM_LEN] = TASK_COMM,
    }

    /// The address space; kernel threads have none.
    #[inline(always)]
    pub(crate) fn mm(self) -> Option<Mm> {
        // SAFETY: see `members!`.
        let mm: *const u8 = unsafe { member(self.0, &TASK_MM) };
        if mm.is_null() {
            None
        } else {
            Some(Mm::from_ptr(mm))
        }
    }

    /// Whether `mm` is the address space it runs in.
    #[inline(always)]
    pub(crate) fn uses(self, mm: Mm) -> bool {
        // SAFETY: see `members!`.
        let own: *const u8 = unsafe { member(self.0, &TASK_MM) };
        mm.is(Mm::from_ptr(own))
    }

    /// The address space, unless it is the parent's and only lent: by vfork(2) until the child calls execve, or by
    /// clone(2) with `CLONE_VM` for good. The parent has it in its figures.
    #[inline(always)]
    pub(crate) fn own_mm(self) -> Option<Mm> {
        let mm = self.mm()?;
        // SAFETY: see `members!`.
        let parent = Self(unsafe { member(self.0, &TASK_REAL_PARENT) });
        match parent.mm() {
            Some(lent) if mm.is(lent) => None,
            _ => Some(mm),
        }
    }

    /// What the threads of the process share.
    #[inline(always)]
    pub(crate) fn signal(self) -> Signal {
        // SAFETY: see `members!`.
        Signal(unsafe { member(self.0, &TASK_SIGNAL) })
    }

    /// The first thread of the process.
    #[inline(always)]
    pub(crate) fn leader(self) -> Self {
        // SAFETY: see `members!`.
        Self(unsafe { member(self.0, &TASK_GROUP_LEADER) })
    }

    #[inline(always)]
    pub(crate) fn is_kernel_thread(self) -> bool {
        self.flags() & PF_KTHREAD != 0
    }

    /// Identity of its process.
    #[inline(always)]
    pub(crate) fn process(self) -> ProcessKey {
        ProcessKey::new(self.tgid(), self.leader().start_boottime_ns())
    }

    /// Identity of the parent process.
    #[inline(always)]
    pub(crate) fn parent(self) -> ProcessKey {
        // SAFETY: see `members!`.
        let parent = Self(unsafe { member(self.0, &TASK_REAL_PARENT) });
        parent.process()
    }

    /// How often it left a CPU.
    #[inline(always)]
    pub(crate) fn switches(self) -> u64 {
        // SAFETY: see `members!`.
        let (voluntary, involuntary): (u64, u64) =
            unsafe { (member(self.0, &TASK_NVCSW), member(self.0, &TASK_NIVCSW)) };
        voluntary + involuntary
    }

    /// What the thread has used.
    #[inline(always)]
    pub(crate) fn totals(self) -> ThreadTotals {
        let offsets = TotalsOffsets {
            cpu_time: &TASK_SUM_EXEC_RUNTIME,
            voluntary_switches: &TASK_NVCSW,
            involuntary_switches: &TASK_NIVCSW,
            minor_faults: &TASK_MIN_FLT,
            major_faults: &TASK_MAJ_FLT,
            user_ticks: &TASK_UTIME,
            system_ticks: &TASK_STIME,
            io_chars: &TASK_IO_CHARS,
            io_disk: &TASK_IO_DISK,
        };
        // SAFETY: see `members!`.
        let totals = unsafe { totals(self.0, &offsets) };
        ThreadTotals {
            runqueue_ns: self.runqueue_ns(),
            runqueue_waits: self.runqueue_waits(),
            ..totals
        }
    }

    /// `__state` and `exit_state`, one over the other.
    #[inline(always)]
    pub(crate) fn state(self) -> u32 {
        // SAFETY: see `members!`.
        let state: u32 = unsafe { member(self.0, &TASK_STATE) };
        state | self.exit_state()
    }

    /// Whether it has a CPU or waits for one. On a kernel for one CPU, which does not say, any thread might have it.
    #[inline(always)]
    pub(crate) fn may_run(self) -> bool {
        if TASK_ON_CPU.load() == MISSING {
            return true;
        }
        // SAFETY: see `members!`.
        let (on_cpu, state): (u32, u32) =
            unsafe { (member(self.0, &TASK_ON_CPU), member(self.0, &TASK_STATE)) };
        on_cpu != 0 || state == 0
    }

    /// Whether no other thread can open or close a file descriptor of its.
    #[inline(always)]
    pub(crate) fn owns_files(self) -> bool {
        // SAFETY: see `members!`.
        let files: *const u8 = unsafe { member(self.0, &TASK_FILES) };
        if files.is_null() {
            return false;
        }
        // SAFETY: see `members!`.
        let users: u32 = unsafe { member(files, &FILES_COUNT) };
        users == 1
    }

    /// The number that the process's own pid namespace knows it by; 0 when it has gone.
    #[inline(always)]
    pub(crate) fn namespace_pid(self) -> u32 {
        // SAFETY: see `members!`.
        let pid: *const u8 = unsafe { member(self.0, &TASK_THREAD_PID) };
        if pid.is_null() {
            return 0;
        }
        // SAFETY: see `members!`.
        let level: u32 = unsafe { member(pid, &PID_LEVEL) };
        // `struct upid` is a number and a pointer: 16 bytes.
        let number = pid as u64 + u64::from(PID_NUMBERS.load()) + u64::from(level) * 16;
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(number as *const u32) }.unwrap_or(0)
    }

    /// Open file descriptors, or `OPEN_FILES_UNKNOWN`.
    #[inline(always)]
    pub(crate) fn open_files(self) -> u32 {
        // SAFETY: see `members!`.
        let files: *const u8 = unsafe { member(self.0, &TASK_FILES) };
        if files.is_null() {
            return OPEN_FILES_UNKNOWN;
        }
        // SAFETY: see `members!`.
        let table: *const u8 = unsafe { member(files, &FILES_FDT) };
        // SAFETY: see `members!`.
        let capacity: u32 = unsafe { member(table, &FDTABLE_MAX_FDS) };
        let at = u64::from(FDTABLE_OPEN_FDS.load());
        // SAFETY: the helper checks the address. Read so, it is a number and not a pointer to the verifier.
        let bits = unsafe { bpf_probe_read_kernel((table as u64 + at) as *const u64) }.unwrap_or(0);
        count_open_files(bits, capacity)
    }

    /// Real user id in the first user namespace.
    #[inline(always)]
    pub(crate) fn uid(self) -> u32 {
        // SAFETY: see `members!`.
        let cred: *const u8 = unsafe { member(self.0, &TASK_CRED) };
        // SAFETY: see `members!`.
        unsafe { member(cred, &CRED_UID) }
    }

    /// Rises by one with each exec along the ancestry; the low 32 bits.
    #[inline(always)]
    pub(crate) fn exec_generation(self) -> u32 {
        // SAFETY: see `members!`.
        let id: u64 = unsafe { member(self.0, &TASK_SELF_EXEC_ID) };
        id as u32
    }

    /// As wait4(2) reports it, once the process exits.
    #[inline(always)]
    pub(crate) fn exit_status(self) -> u32 {
        let signal = self.signal();
        if signal.flags() & SIGNAL_GROUP_EXIT != 0 {
            signal.group_exit_code()
        } else {
            self.leader().exit_code()
        }
    }

    /// The directory of the control group: on a machine with cgroup v1 in the hierarchy that the agent chose.
    #[inline(always)]
    fn cgroup_node(self) -> *const u8 {
        // SAFETY: see `members!`.
        let css_set: *const u8 = unsafe { member(self.0, &TASK_CGROUPS) };
        let cgroup: *const u8 = if CSS_SET_SUBSYS.load() == MISSING {
            // SAFETY: see `members!`.
            unsafe { member(css_set, &CSS_SET_DFL_CGRP) }
        } else {
            // SAFETY: see `members!`.
            let css: *const u8 = unsafe { member(css_set, &CSS_SET_SUBSYS) };
            // SAFETY: see `members!`.
            unsafe { member(css, &CSS_CGROUP) }
        };
        // SAFETY: see `members!`.
        unsafe { member(cgroup, &CGROUP_KN) }
    }

    /// Inode number of the control group's directory.
    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        // SAFETY: see `members!`.
        unsafe { member(self.cgroup_node(), &KN_ID) }
    }

    /// Writes the last part of the control group's path, ended by zero.
    ///
    /// # Safety
    /// `to` may be written for `len` bytes and is known as such to the verifier.
    #[inline(always)]
    pub(crate) unsafe fn write_cgroup_name(self, to: *mut u8, len: u32) {
        // SAFETY: see `members!`.
        let name: *const u8 = unsafe { member(self.cgroup_node(), &KN_NAME) };
        // SAFETY: as promised by the caller.
        unsafe { write_string(name, to, len) };
    }
}

/// A `signal_struct`.
#[derive(Clone, Copy)]
pub(crate) struct Signal(*const u8);

impl Signal {
    members! {
        /// Threads that have not begun to exit.
        live: u32 = SIGNAL_LIVE,
        threads: u32 = SIGNAL_NR_THREADS,
        /// Descriptors that the process may have open.
        open_files_limit: u64 = SIGNAL_NOFILE,
        group_exit_code: u32 = SIGNAL_GROUP_EXIT_CODE,
        /// CPU time of threads that are gone.
        ended_cpu_time_ns: u64 = SIGNAL_SUM_SCHED_RUNTIME,
        flags: u32 = SIGNAL_FLAGS,
    }

    /// What threads used that are gone. The kernel does not keep their run-queue wait.
    #[inline(always)]
    pub(crate) fn ended_totals(self) -> ThreadTotals {
        let offsets = TotalsOffsets {
            cpu_time: &SIGNAL_SUM_SCHED_RUNTIME,
            voluntary_switches: &SIGNAL_NVCSW,
            involuntary_switches: &SIGNAL_NIVCSW,
            minor_faults: &SIGNAL_MIN_FLT,
            major_faults: &SIGNAL_MAJ_FLT,
            user_ticks: &SIGNAL_UTIME,
            system_ticks: &SIGNAL_STIME,
            io_chars: &SIGNAL_IO_CHARS,
            io_disk: &SIGNAL_IO_DISK,
        };
        // SAFETY: see `members!`.
        unsafe { totals(self.0, &offsets) }
    }

    /// The OOM killer chose this process.
    #[inline(always)]
    pub(crate) fn is_oom_victim(self) -> bool {
        // SAFETY: see `members!`.
        let mm: *const u8 = unsafe { member(self.0, &SIGNAL_OOM_MM) };
        !mm.is_null()
    }
}

/// Writes what was given to execve(2), ended by zero.
///
/// # Safety
/// `bprm` is a `linux_binprm` that the verifier knows; `to` may be written for `len` bytes.
#[inline(always)]
pub(crate) unsafe fn write_filename(bprm: *const u8, to: *mut u8, len: u32) {
    // SAFETY: see `members!`.
    let name: *const u8 = unsafe { member(bprm, &BINPRM_FILENAME) };
    // SAFETY: as promised by the caller.
    unsafe { write_string(name, to, len) };
}

/// Copies a string of the kernel, ended by zero.
///
/// # Safety
/// `to` may be written for `len` bytes and is known as such to the verifier.
#[inline(always)]
unsafe fn write_string(from: *const u8, to: *mut u8, len: u32) {
    // SAFETY: as promised by the caller; the helper checks `from` itself.
    let written = unsafe { bpf_probe_read_kernel_str(to.cast(), len, from.cast()) };
    if written <= 0 {
        // SAFETY: `len` is at least one.
        unsafe { *to = 0 };
    }
}

/// Counts the bits of a table of open descriptors. A function of its own for everybody to see: the verifier follows its
/// loop once, and not once for each way that leads to it, which is more than older kernels allow.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn count_open_files(bits: u64, capacity: u32) -> u32 {
    let mut open = 0;
    for word in 0..OPEN_FILES_WORDS_MAX {
        if word * 64 >= capacity {
            return open;
        }
        // SAFETY: the helper checks the address.
        match unsafe { bpf_probe_read_kernel((bits + u64::from(word) * 8) as *const u64) } {
            Ok(word) => open += word.count_ones(),
            Err(_) => return OPEN_FILES_UNKNOWN,
        }
    }
    OPEN_FILES_UNKNOWN
}
