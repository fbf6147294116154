//! `rss_stat` → the greatest resident set of this drain epoch, in the slot of the thread that caused it.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;

use crate::{
    cpu_time::slot_of,
    maps::epoch,
    task::{Mm, Task},
};

/// Pages of `mm` changed. Changes of somebody else's memory (fork, reclaim) are left to the iterator.
#[inline(always)]
pub(crate) fn on_change(mm: *const u8) {
    // SAFETY: a helper without conditions; the verifier knows what it returns.
    let current = Task::from_ptr(unsafe { bpf_get_current_task_btf() }.cast_const().cast());
    let mm = Mm::from_ptr(mm);
    if !current.uses(mm) {
        return;
    }
    let pages = mm.rss_pages();
    let Some(slot) = slot_of(current) else { return };
    let epoch = epoch() as u32;
    let bank = (epoch & 1) as usize;
    // SAFETY: the slot of the current thread: nobody else writes this bank of it while the epoch lasts.
    let known_epoch = unsafe { read_volatile(&raw const (*slot).peak_epoch[bank]) };
    // SAFETY: as above.
    let known = unsafe { read_volatile(&raw const (*slot).peak_rss_pages[bank]) };
    if known_epoch == epoch && pages <= known {
        return;
    }
    // Asked last: it takes the parent's task, and most changes make no new peak.
    if current.own_mm().is_none() {
        return;
    }
    // SAFETY: as above. The agent takes the peak only when it finds the epoch it waits for.
    unsafe {
        write_volatile(&raw mut (*slot).peak_rss_pages[bank], pages);
        write_volatile(&raw mut (*slot).peak_epoch[bank], epoch);
    }
}

/// What the current thread has noted in this epoch, which is then forgotten: it belongs to the program before its
/// execve, and to the interval, but not to the life of the program after it.
#[inline(always)]
pub(crate) fn take_peak(current: Task) -> u32 {
    let Some(slot) = slot_of(current) else { return 0 };
    let epoch = epoch() as u32;
    let bank = (epoch & 1) as usize;
    // SAFETY: as in `on_change`.
    unsafe {
        if read_volatile(&raw const (*slot).peak_epoch[bank]) != epoch {
            return 0;
        }
        let pages = read_volatile(&raw const (*slot).peak_rss_pages[bank]);
        write_volatile(&raw mut (*slot).peak_rss_pages[bank], 0);
        pages as u32
    }
}
