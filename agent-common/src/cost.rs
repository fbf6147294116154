//! Counters of what the kernel programs cost, and how to find them.

use crate::KernelRecord;

/// A program in the kernel that is attached to a tracepoint.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// A thread leaves a CPU, another gets it.
    SchedSwitch = 0,
    /// Resident pages changed.
    RssStat = 1,
    /// A thread was made.
    Fork = 2,
    /// A process became another program.
    Exec = 3,
    /// A thread began to exit.
    Exit = 4,
    /// A task is freed.
    Free = 5,
    /// The idle loop halts or goes on.
    CpuIdle = 6,
    /// No tracepoint's: two readings of the clock, timed at start. It stands in every run that is timed.
    Clock = 7,
}

/// Number of programs; slots of a CPU lie side by side.
pub const PROGRAMS: u32 = 8;

/// One run in so many is timed.
pub const COST_TIMED_EVERY: u64 = 1024;

impl Program {
    /// Every program, under the name that its function and tracepoint have.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::SchedSwitch, "sched_switch"),
        (Self::RssStat, "rss_stat"),
        (Self::Fork, "sched_process_fork"),
        (Self::Exec, "sched_process_exec"),
        (Self::Exit, "sched_process_exit"),
        (Self::Free, "sched_process_free"),
        (Self::CpuIdle, "cpu_idle"),
    ];
}

/// Cost of one program on one CPU. Every figure only rises.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CostSlot {
    /// Runs.
    pub runs: u64,
    /// Runs that were timed.
    pub timed_runs: u64,
    /// Their time in all, nanoseconds, each with what reading the clock twice takes.
    pub timed_ns: u64,
    /// Keeps slots from lying across cache lines.
    pub reserved: u64,
}

const _: () = assert!(size_of::<CostSlot>() == 32, "no implicit padding");
// SAFETY: `repr(C)`, integers only, no implicit padding (asserted above).
unsafe impl KernelRecord for CostSlot {}
