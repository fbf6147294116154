//! What our programs cost → `COSTS`: each counts its runs, and one run in 1,024 is timed.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_ns},
    macros::map,
    maps::Array,
};
use procscope_agent_common::{COST_TIMED_EVERY, CostSlot, PROGRAMS, Program};

use crate::maps::BPF_F_MMAPABLE;

/// One slot a program and CPU, by CPU x programs + program. The loader sets the size, so it is never full.
#[map]
static COSTS: Array<CostSlot> = Array::with_max_entries(PROGRAMS, BPF_F_MMAPABLE);

/// A run that took longer was not running all the while: the host of a virtual machine, or an interrupt, had its CPU. Such
/// a run counts, and its time is taken to be like that of the others.
const TIMED_NS_MAX: u64 = 50_000;

/// A run that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    slot: *mut CostSlot,
    begun_ns: u64,
}

/// Reads the clock twice: what that takes is in every run that is timed.
#[inline(always)]
pub(crate) fn time_the_clock() {
    // SAFETY: a helper without conditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(slot) = COSTS.get_ptr_mut(cpu * PROGRAMS + Program::Clock as u32) else {
        return;
    };
    // SAFETY: a helper without conditions.
    let begun_ns = unsafe { bpf_ktime_get_ns() };
    end(Some(Run { slot, begun_ns }));
}

/// Counts a run, and begins to time it when it is its turn.
#[inline(always)]
pub(crate) fn begin(program: Program) -> Option<Run> {
    // SAFETY: a helper without conditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let slot = COSTS.get_ptr_mut(cpu * PROGRAMS + program as u32)?;
    // SAFETY: the slot of this program on this CPU. Another run that comes in between, in an interrupt, costs at
    // most a count.
    let runs = unsafe {
        let runs = read_volatile(&raw const (*slot).runs);
        write_volatile(&raw mut (*slot).runs, runs + 1);
        runs
    };
    if runs % COST_TIMED_EVERY != 0 {
        return None;
    }
    // SAFETY: a helper without conditions.
    let begun_ns = unsafe { bpf_ktime_get_ns() };
    Some(Run { slot, begun_ns })
}

/// Ends a run that is timed.
#[inline(always)]
pub(crate) fn end(run: Option<Run>) {
    let Some(Run { slot, begun_ns }) = run else {
        return;
    };
    // SAFETY: a helper without conditions.
    let ns = unsafe { bpf_ktime_get_ns() } - begun_ns;
    if ns > TIMED_NS_MAX {
        return;
    }
    // SAFETY: as in `begin`.
    unsafe {
        let timed_runs = read_volatile(&raw const (*slot).timed_runs);
        let timed_ns = read_volatile(&raw const (*slot).timed_ns);
        write_volatile(&raw mut (*slot).timed_runs, timed_runs + 1);
        write_volatile(&raw mut (*slot).timed_ns, timed_ns + ns);
    }
}
