//! Every map: what it holds, its capacity, and what happens when it is full.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use procscope_agent_common::{CpuSlot, DROP_REASONS, DropReason, EPOCH_INDEX, THREAD_SLOTS, ThreadSlot};

/// User space reads the memory of such a map without a system call.
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// Bytes of events that can wait between two drains: at 1 KiB a short-lived process, 4,000 of them.
const EVENTS_BYTES: u32 = 4 << 20;

/// One slot a thread, by tid modulo size. Never full: of two threads with one slot the last to run has it.
#[map]
pub(crate) static SLOTS: Array<ThreadSlot> = Array::with_max_entries(THREAD_SLOTS, BPF_F_MMAPABLE);

/// One slot a CPU. The loader sets the size to the number of possible CPUs, so it is never full.
#[map]
pub(crate) static CPUS: Array<CpuSlot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One number: the drain epoch, written by the agent. Peaks belong to the epoch in which they were seen.
#[map]
pub(crate) static EPOCH: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Events of lives. When it is full an event is dropped and counted.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// What was lost, by `DropReason`. Only rises.
#[map]
pub(crate) static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DROP_REASONS, 0);

/// Counts a lost measurement and says how many there were on this CPU before.
#[inline(always)]
pub(crate) fn count_drop(reason: DropReason) -> u64 {
    let Some(count) = DROPS.get_ptr_mut(reason as u32) else {
        return 0;
    };
    // SAFETY: a per-CPU value; programs on one CPU that could interrupt each other here lose at most a count.
    unsafe {
        let before = *count;
        *count = before + 1;
        before
    }
}

/// The present drain epoch.
#[inline(always)]
pub(crate) fn epoch() -> u64 {
    // SAFETY: one aligned u64 that the agent replaces as a whole.
    EPOCH
        .get_ptr(EPOCH_INDEX)
        .map_or(0, |epoch| unsafe { core::ptr::read_volatile(epoch) })
}
