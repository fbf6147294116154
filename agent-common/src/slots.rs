//! Memory that programs in the kernel write and the agent reads while it is written: one slot a thread, one a
//! CPU. Each `u64` means something alone.

use crate::{KernelRecord, ThreadTotals};

/// Thread slots: a power of two. A thread has the slot of its tid modulo this number, so with a `pid_max` up to
/// this number no two threads share one; above it collisions are counted.
pub const THREAD_SLOTS: u32 = 32_768;

/// Index into the map `CONTROL`, by which the agent tells the programs something: the drain epoch.
pub const CONTROL_EPOCH: u32 = 0;
/// Index into `CONTROL`: 1 once the hot programs are detached, and ends of threads are told when they are freed.
pub const CONTROL_QUIET: u32 = 1;
/// Index into `CONTROL`: raised when the next walk is to tell every task whole, whether it has run or not.
pub const CONTROL_WHOLE: u32 = 2;
/// Entries of `CONTROL`.
pub const CONTROL_LEN: u32 = 3;

/// Control groups whose threads' lost ends are summed apart; those of others are summed under `OVERFLOW_OTHER`.
pub const OVERFLOW_GROUPS: u32 = 1024;
/// The key of all other control groups in the map `OVERFLOW`: no group has this id.
pub const OVERFLOW_OTHER: u64 = 0;

/// Sums over threads whose end found no room and that no walk had found. Every figure only rises.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OverflowSlot {
    /// What they used over their whole lives.
    pub totals: ThreadTotals,
    /// How many they are.
    pub threads: u64,
}

const _: () = assert!(size_of::<OverflowSlot>() == 16 * 8, "no implicit padding");
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for OverflowSlot {}

/// The slot of a thread.
#[must_use]
pub const fn thread_slot_index(tid: u32) -> u32 {
    tid & (THREAD_SLOTS - 1)
}

/// What the scheduler last said of one thread. One cache line.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct ThreadSlot {
    /// Whose slot it is now. 0: nobody's yet.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// Start of that thread, nanoseconds of `CLOCK_BOOTTIME`: with the tid, an identity.
    pub start_boottime_ns: u64,
    /// `sum_exec_runtime` when the thread last left a CPU: absolute, so a missed event heals with the next.
    pub cpu_time_ns: u64,
    /// `sched_info.run_delay` at that moment.
    pub runqueue_ns: u64,
    /// Greatest resident sets in pages, of an even and of an odd drain epoch: while the agent reads the one of
    /// the epoch that just ended, the kernel writes the other.
    pub peak_rss_pages: [u64; 2],
    /// The epochs, truncated, in which they were seen.
    pub peak_epoch: [u32; 2],
    /// 1 once the thread has left its CPU for the last time.
    pub ended: u32,
    /// `SLOT_WALKED`, `SLOT_SUMMED`, or 0.
    pub walked: u32,
}

/// `ThreadSlot::walked`: a walk has found the thread, the agent knows it.
pub const SLOT_WALKED: u32 = 1;
/// `ThreadSlot::walked`: the end of the thread found no room, and what it used is in the sums of lost ends.
pub const SLOT_SUMMED: u32 = 2;

const _: () = assert!(
    size_of::<ThreadSlot>() == 64,
    "one cache line, no implicit padding"
);
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for ThreadSlot {}

/// Marks of threads: a power of two. A thread has the mark of its tid modulo this number. Of two threads with one mark
/// each is told whole in each walk: that costs, and changes no figure.
pub const WALK_MARKS: u32 = 65_536;

/// The mark of a thread.
#[must_use]
pub const fn walk_mark_index(tid: u32) -> u32 {
    tid & (WALK_MARKS - 1)
}

/// What the last walk noted of a thread: has it run since?
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WalkMark {
    /// The address of its `task_struct`: after an exec by another thread the same number and start are another's.
    pub task: u64,
    /// Start of that thread.
    pub start_boottime_ns: u64,
    /// How often it had left a CPU. All ones: it had one, or waited for one.
    pub switches: u64,
    /// `CONTROL_WHOLE` at that walk.
    pub whole: u32,
    /// 1: its file descriptors were nobody else's.
    pub owns_files: u32,
}

const _: () = assert!(size_of::<WalkMark>() == 32, "no implicit padding");
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for WalkMark {}

/// Lengths that run-queue waits are told apart by: below 1,024 ns, 2,048 ns and so on, the last one open.
pub const WAIT_BUCKETS: usize = 16;

/// Run-queue waits of the thread whose `ThreadSlot` has the same index, by length. One cache line.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct WaitSlot {
    /// How many of each length. They wrap.
    pub counts: [u32; WAIT_BUCKETS],
}

const _: () = assert!(size_of::<WaitSlot>() == 64, "one cache line, no implicit padding");
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for WaitSlot {}

/// Idle time of one CPU. One cache line.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct CpuSlot {
    /// Raised before and after each change: odd while the slot is being written.
    pub version: u64,
    /// Idle intervals that have ended, summed, nanoseconds of the runqueue's task clock.
    pub idle_ns: u64,
    /// Start of the open idle interval by the runqueue's task clock. Only set while `idle_since_monotonic_ns` is.
    pub idle_start_ns: u64,
    /// Start of the open idle interval by `CLOCK_MONOTONIC`; 0: the CPU is not idle.
    pub idle_since_monotonic_ns: u64,
    /// 1 once the CPU has switched under our eyes; before that nothing is known of it.
    pub seen: u64,
    /// How often the idle task had left the CPU when the open idle interval began.
    pub idle_switches: u64,
    /// Where switches can be hidden: when the idle loop was last left, by `CLOCK_MONOTONIC`. 0: it runs.
    pub idle_left_monotonic_ns: u64,
    /// Keeps the size at one cache line.
    pub reserved: u64,
}

const _: () = assert!(size_of::<CpuSlot>() == 64, "one cache line, no implicit padding");
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for CpuSlot {}
