//! Run-queue waits by length → `WAITS`, where the agent asks for it. No clock and no wake-up hook: the kernel sums
//! each thread's waits, so what the sum rose by since the thread last left a CPU is its one wait before this run.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{Global, macros::map, maps::Array};
use procscope_agent_common::{WAIT_BUCKETS, WaitSlot, thread_slot_index};

use crate::maps::BPF_F_MMAPABLE;

/// One slot a thread, beside its slot in `SLOTS` and owned by the same thread. The loader sets the size when waits
/// are counted.
#[map]
static WAITS: Array<WaitSlot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// 1 where waits are counted. The loader sets it.
#[unsafe(no_mangle)]
static COUNT_WAITS: Global<u32> = Global::new(0);

/// Whether waits are counted.
#[inline(always)]
pub(crate) fn are_counted() -> bool {
    COUNT_WAITS.load() != 0
}

/// The thread waited so long before the run that ends now.
#[inline(always)]
pub(crate) fn count(tid: u32, wait_ns: u64) {
    let Some(slot) = WAITS.get_ptr_mut(thread_slot_index(tid)) else {
        return;
    };
    let mut bucket = 0;
    let mut bound_ns = 1024;
    while bucket < WAIT_BUCKETS - 1 && wait_ns >= bound_ns {
        bucket += 1;
        bound_ns *= 2;
    }
    // SAFETY: the slot of a thread is written by the CPU that it leaves, interrupts off.
    unsafe {
        let counter = (&raw mut (*slot).counts)
            .cast::<u32>()
            .add(bucket & (WAIT_BUCKETS - 1));
        write_volatile(counter, read_volatile(counter).wrapping_add(1));
    }
}

/// The slot is another thread's now.
#[inline(always)]
pub(crate) fn clear(tid: u32) {
    if let Some(slot) = WAITS.get_ptr_mut(thread_slot_index(tid)) {
        // SAFETY: as in `slot_of`, which calls this.
        unsafe { write_volatile(&raw mut (*slot).counts, [0; WAIT_BUCKETS]) };
    }
}
