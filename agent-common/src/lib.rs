//! The bytes that kernel and user space share: no std, no dependencies, no features.
//!
//! Layout rule: every type here is `repr(C)`, made of integers and arrays of them, and has no padding that the
//! compiler chose; sizes are asserted beside each type. So any bytes of the right length are a value.

#![no_std]

mod cost;
mod drops;
mod process;
mod slots;

pub use cost::{COST_TIMED_EVERY, CostSlot, PROGRAMS, Program};
pub use drops::{DROP_REASONS, DropReason};
pub use process::{
    ARGUMENTS_LEN, CGROUP_NAME_LEN, COMM_LEN, EVENT_EXEC, EVENT_EXIT, EVENT_FORK, EVENT_PROCESS_FREED,
    EVENT_THREAD_END, ExecEvent, ExitEvent, FILENAME_LEN, ForkEvent, OPEN_FILES_SAME, OPEN_FILES_UNKNOWN,
    Present, ProcessFreedEvent, ProcessKey, StillRecord, StillThreadRecord, TASK_DEAD_BIT, TASK_FROM_PROC,
    TASK_HAS_MM, TASK_KERNEL_THREAD, TASK_PROC_IO, TASK_SUMMED, TASK_ZOMBIE, TaskRecord, ThreadEndEvent,
    ThreadTotals, WALK_STILL, WALK_STILL_THREAD, WALK_TASK,
};
pub use slots::{
    CONTROL_EPOCH, CONTROL_LEN, CONTROL_QUIET, CONTROL_WHOLE, CpuSlot, OVERFLOW_GROUPS, OVERFLOW_OTHER,
    OverflowSlot, SLOT_SUMMED, SLOT_WALKED, THREAD_SLOTS, ThreadSlot, WAIT_BUCKETS, WALK_MARKS, WaitSlot,
    WalkMark, thread_slot_index, walk_mark_index,
};

/// A type that crosses the kernel boundary as bytes.
///
/// # Safety
/// The type is `repr(C)`, holds only integers and arrays of integers, and has no implicit padding: every bit
/// pattern of its size is a value of it.
pub unsafe trait KernelRecord: Copy + 'static {}
