//! The one file that reads `task_struct`, `mm_struct` and what hangs on them. Kernels it knows: 6.1 and later.
//!
//! Offsets are looked up in the kernel's BTF by the agent (`agent/src/offsets.rs`, same names) and put into
//! read-only memory before loading, so the verifier sees constants. `MISSING` marks a member that this kernel
//! lacks; the verifier then removes the branch that would read it.

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    programs::BtfTracePointContext,
};
use procscope_agent_common::{ARGUMENTS_LEN, COMM_LEN, ProcessKey, ThreadTotals};

/// The offset of a member that this kernel lacks.
pub(crate) const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            static $name: Global<u32> = Global::new(MISSING);
        )*
    };
}

offsets! {
    TASK_PID TASK_TGID TASK_FLAGS TASK_MM TASK_EXIT_STATE TASK_EXIT_CODE TASK_REAL_PARENT TASK_GROUP_LEADER
    TASK_START_BOOTTIME TASK_SUM_EXEC_RUNTIME TASK_EXEC_START TASK_RUN_DELAY TASK_NVCSW TASK_NIVCSW
    TASK_MIN_FLT TASK_MAJ_FLT TASK_CRED TASK_COMM TASK_SIGNAL TASK_SELF_EXEC_ID TASK_CGROUPS
    SIGNAL_LIVE SIGNAL_NR_THREADS SIGNAL_GROUP_EXIT_CODE SIGNAL_FLAGS SIGNAL_NVCSW SIGNAL_NIVCSW
    SIGNAL_MIN_FLT SIGNAL_MAJ_FLT SIGNAL_SUM_SCHED_RUNTIME SIGNAL_OOM_MM
    MM_HIWATER_RSS MM_TOTAL_VM MM_ARG_START MM_ARG_END MM_RSS_FILE MM_RSS_ANON MM_RSS_SHMEM MM_RSS_SWAP
    CRED_UID CSS_SET_DFL_CGRP CSS_SET_SUBSYS CSS_CGROUP CGROUP_KN KN_ID KN_NAME BINPRM_FILENAME
}

/// `PF_KTHREAD`.
const PF_KTHREAD: u32 = 0x0020_0000;
/// `SIGNAL_GROUP_EXIT`.
const SIGNAL_GROUP_EXIT: u32 = 0x4;

/// Loads the member at `offset` of what `base` points to.
///
/// # Safety
/// `base` is a pointer that the verifier knows the type of, and `offset` that of a member of type `T` in it.
#[inline(always)]
unsafe fn member<T: Copy>(base: *const u8, offset: &Global<u32>) -> T {
    // SAFETY: as promised by the caller; the verifier refuses the program otherwise, and a load through a
    // pointer that has gone bad gives zero.
    unsafe { core::ptr::read_volatile(base.add(offset.load() as usize).cast::<T>()) }
}

/// Members of one kernel struct, as functions. Safe because each offset comes from this kernel's BTF for just
/// that member, and the verifier checks every load.
macro_rules! members {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $offset:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $name(self) -> $type {
                // SAFETY: `self.0` has the type that this wrapper stands for, `$offset` is of this member.
                unsafe { member(self.0, &$offset) }
            }
        )*
    };
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
        comm: [u8; COMM_LEN] = TASK_COMM,
    }

    /// The address space; kernel threads have none.
    #[inline(always)]
    pub(crate) fn mm(self) -> Option<Mm> {
        // SAFETY: see `members!`.
        let mm: *const u8 = unsafe { member(self.0, &TASK_MM) };
        if mm.is_null() { None } else { Some(Mm(mm)) }
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
        let totals = self.totals();
        totals.voluntary_switches + totals.involuntary_switches
    }

    /// What the thread has used.
    #[inline(always)]
    pub(crate) fn totals(self) -> ThreadTotals {
        ThreadTotals {
            cpu_time_ns: self.cpu_time_ns(),
            runqueue_ns: self.runqueue_ns(),
            // SAFETY: see `members!`.
            voluntary_switches: unsafe { member(self.0, &TASK_NVCSW) },
            // SAFETY: see `members!`.
            involuntary_switches: unsafe { member(self.0, &TASK_NIVCSW) },
            // SAFETY: see `members!`.
            minor_faults: unsafe { member(self.0, &TASK_MIN_FLT) },
            // SAFETY: see `members!`.
            major_faults: unsafe { member(self.0, &TASK_MAJ_FLT) },
        }
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
        group_exit_code: u32 = SIGNAL_GROUP_EXIT_CODE,
        flags: u32 = SIGNAL_FLAGS,
    }

    /// What threads used that are gone. The kernel does not keep their run-queue wait.
    #[inline(always)]
    pub(crate) fn ended_totals(self) -> ThreadTotals {
        ThreadTotals {
            // SAFETY: see `members!`.
            cpu_time_ns: unsafe { member(self.0, &SIGNAL_SUM_SCHED_RUNTIME) },
            runqueue_ns: 0,
            // SAFETY: see `members!`.
            voluntary_switches: unsafe { member(self.0, &SIGNAL_NVCSW) },
            // SAFETY: see `members!`.
            involuntary_switches: unsafe { member(self.0, &SIGNAL_NIVCSW) },
            // SAFETY: see `members!`.
            minor_faults: unsafe { member(self.0, &SIGNAL_MIN_FLT) },
            // SAFETY: see `members!`.
            major_faults: unsafe { member(self.0, &SIGNAL_MAJ_FLT) },
        }
    }

    /// The OOM killer chose this process.
    #[inline(always)]
    pub(crate) fn is_oom_victim(self) -> bool {
        // SAFETY: see `members!`.
        let mm: *const u8 = unsafe { member(self.0, &SIGNAL_OOM_MM) };
        !mm.is_null()
    }
}

/// A `mm_struct`. Its page counters are off by what CPUs have not yet put together (docs/metrics.md).
#[derive(Clone, Copy)]
pub(crate) struct Mm(*const u8);

impl Mm {
    /// A pointer that the kernel typed.
    #[inline(always)]
    pub(crate) const fn from_ptr(mm: *const u8) -> Self {
        Self(mm)
    }

    /// Whether both are the same address space.
    #[inline(always)]
    pub(crate) fn is(self, other: Self) -> bool {
        self.0 == other.0
    }

    members! {
        hiwater_pages: u64 = MM_HIWATER_RSS,
        virtual_pages: u64 = MM_TOTAL_VM,
        file_count: i64 = MM_RSS_FILE,
        anon_count: i64 = MM_RSS_ANON,
        shmem_count: i64 = MM_RSS_SHMEM,
        swap_count: i64 = MM_RSS_SWAP,
        arguments_start: u64 = MM_ARG_START,
        arguments_end: u64 = MM_ARG_END,
    }

    /// Resident pages of all kinds.
    #[inline(always)]
    pub(crate) fn rss_pages(self) -> u64 {
        positive(self.file_count()) + positive(self.anon_count()) + positive(self.shmem_count())
    }

    /// Writes the first arguments of the current process and says how many bytes of them.
    ///
    /// # Safety
    /// `to` may be written for `ARGUMENTS_LEN` bytes and is known as such to the verifier; the address space is
    /// that of the current thread.
    #[inline(always)]
    pub(crate) unsafe fn write_arguments(self, to: *mut u8) -> u32 {
        let start = self.arguments_start();
        let mut len = self.arguments_end().wrapping_sub(start);
        if len > ARGUMENTS_LEN as u64 {
            len = ARGUMENTS_LEN as u64;
        }
        let len = len as u32;
        // SAFETY: as promised by the caller; a page that is not there makes the helper fail, not fault.
        let failed = unsafe { bpf_probe_read_user(to.cast(), len, start as *const _) };
        if failed == 0 { len } else { 0 }
    }
}

/// A counter that CPUs have not yet put together can be below zero for a moment.
#[inline(always)]
pub(crate) fn positive(count: i64) -> u64 {
    if count > 0 { count.unsigned_abs() } else { 0 }
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
