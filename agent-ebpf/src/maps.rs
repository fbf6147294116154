//! Every map: what it holds, its capacity, and what happens when it is full.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, PerCpuHashMap, RingBuf},
};
use procscope_agent_common::{
    CONTROL_EPOCH, CONTROL_LEN, CONTROL_QUIET, CONTROL_WHOLE, CpuSlot, DROP_REASONS, DropReason,
    OVERFLOW_GROUPS, OVERFLOW_OTHER, OverflowSlot, THREAD_SLOTS, ThreadSlot, ThreadTotals,
};

/// User space reads the memory of such a map without a system call.
pub(crate) const BPF_F_MMAPABLE: u32 = 1 << 10;

/// Bytes of events that can wait between two drains: at 1 KiB a short-lived process, 4,000 of them.
const EVENTS_BYTES: u32 = 4 << 20;

/// One slot a thread, by tid modulo size. Never full: of two threads with one slot the last to run has it.
#[map]
pub(crate) static SLOTS: Array<ThreadSlot> = Array::with_max_entries(THREAD_SLOTS, BPF_F_MMAPABLE);

/// One slot a CPU. The loader sets the size to the number of possible CPUs, so it is never full.
#[map]
pub(crate) static CPUS: Array<CpuSlot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the agent tells: the drain epoch (peaks belong to the epoch in which they were seen), and the mode.
#[map]
static CONTROL: Array<u64> = Array::with_max_entries(CONTROL_LEN, BPF_F_MMAPABLE);

/// Threads whose end found no room and that no walk had found, by control group. When it is full their sums go to
/// `OVERFLOW_OTHER`, which the agent makes at start.
#[map]
static OVERFLOW: PerCpuHashMap<u64, OverflowSlot> = PerCpuHashMap::with_max_entries(OVERFLOW_GROUPS + 1, 0);

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
    control(CONTROL_EPOCH)
}

/// Whether ends of threads are told when they are freed.
#[inline(always)]
pub(crate) fn is_quiet() -> bool {
    control(CONTROL_QUIET) != 0
}

/// Changes when the agent wants every task told whole.
#[inline(always)]
pub(crate) fn whole_walk() -> u32 {
    control(CONTROL_WHOLE) as u32
}

#[inline(always)]
fn control(index: u32) -> u64 {
    // SAFETY: one aligned u64 that the agent replaces as a whole.
    CONTROL
        .get_ptr(index)
        .map_or(0, |value| unsafe { core::ptr::read_volatile(value) })
}

/// Adds a thread that nobody will hear of to the sums of its control group.
#[inline(always)]
pub(crate) fn add_to_overflow(cgroup_id: u64, totals: ThreadTotals) {
    const BPF_NOEXIST: u64 = 1;
    let slot = OVERFLOW.get_ptr_mut(cgroup_id).or_else(|| {
        // Full, or made by another CPU in this moment: then it is there.
        _ = OVERFLOW.insert(cgroup_id, OverflowSlot::default(), BPF_NOEXIST);
        OVERFLOW.get_ptr_mut(cgroup_id)
    });
    let Some(slot) = slot.or_else(|| OVERFLOW.get_ptr_mut(OVERFLOW_OTHER)) else {
        return;
    };
    // SAFETY: this CPU's value; the scheduler's programs do not interrupt each other.
    unsafe {
        (*slot).totals = (*slot).totals.combine(totals, u64::wrapping_add);
        (*slot).threads += 1;
    }
}
