//! Idle time of each CPU → `CPUS`: from `sched_switch`, and from `cpu_idle` where the kernel hides switches.
//!
//! Some sandboxes keep their own processes from all programs, and a switch to or from such a process with them.
//! The idle loop itself is never hidden: `cpu_idle` tells when it is entered and left, and the idle task's own
//! count of switches tells whether anybody ran in between.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::{
    bpf_get_smp_processor_id,
    generated::{bpf_get_current_task_btf, bpf_ktime_get_ns},
};
use procscope_agent_common::CpuSlot;

use crate::{maps::CPUS, task::Task};

/// `PWR_EVENT_EXIT`: the idle loop was left.
const LEFT: u32 = u32::MAX;

/// When an idle interval began by the runqueue's task clock, where that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The CPU has nothing to run. What `previous` used was accounted a moment ago, up to its `exec_start`: from there on
/// the CPU idles. The idle task's own is set from Linux 6.12 on only, and a little later.
#[inline(always)]
pub(crate) fn begin(previous: Task, idle: Task) {
    if let Some(slot) = cpu_slot() {
        // An interval that is still open here was ended by a switch that was hidden.
        change(slot, seen_idle_ns(slot), Some((idle, previous.exec_start_ns())));
    }
}

/// The CPU has something to run again: `next` was given the runqueue's time when it was chosen.
#[inline(always)]
pub(crate) fn end(idle: Task, next: Task) {
    let Some(slot) = cpu_slot() else { return };
    // SAFETY: only this CPU writes its slot, interrupts off.
    let (since, start, switches, left) = unsafe {
        (
            read_volatile(&raw const (*slot).idle_since_monotonic_ns),
            read_volatile(&raw const (*slot).idle_start_ns),
            read_volatile(&raw const (*slot).idle_switches),
            read_volatile(&raw const (*slot).idle_left_monotonic_ns),
        )
    };
    let idle_ns = if since == 0 {
        0
    } else if start == UNKNOWN || left != 0 && idle.switches() != switches + 1 {
        seen_idle_ns(slot)
    } else {
        next.exec_start_ns().wrapping_sub(start)
    };
    change(slot, idle_ns, None);
}

/// The idle loop of this CPU halts, or (`LEFT`) goes on.
#[inline(always)]
pub(crate) fn on_cpu_idle(state: u32) {
    let Some(slot) = cpu_slot() else { return };
    // SAFETY: only this CPU writes its slot, interrupts off.
    let (since, known, switches) = unsafe {
        (
            read_volatile(&raw const (*slot).idle_since_monotonic_ns),
            read_volatile(&raw const (*slot).idle_start_ns),
            read_volatile(&raw const (*slot).idle_switches),
        )
    };
    if state == LEFT {
        // SAFETY: a helper without conditions.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: as above; one aligned word.
        unsafe { write_volatile(&raw mut (*slot).idle_left_monotonic_ns, now) };
        return;
    }
    // SAFETY: a helper without conditions; its result is a task that the verifier knows.
    let idle = Task::from_ptr(unsafe { bpf_get_current_task_btf() }.cast());
    if since == 0 || idle.switches() != switches {
        // What was switched out is hidden. The idle task's own time is that of its creation on older kernels, and
        // so before any that was seen here.
        let own = idle.exec_start_ns();
        let start = if known != 0 && own > known { own } else { UNKNOWN };
        change(slot, seen_idle_ns(slot), Some((idle, start)));
    } else {
        // SAFETY: as above; one aligned word.
        unsafe { write_volatile(&raw mut (*slot).idle_left_monotonic_ns, 0) };
    }
}

/// This CPU's slot.
#[inline(always)]
fn cpu_slot() -> Option<*mut CpuSlot> {
    // SAFETY: a helper without conditions.
    CPUS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })
}

/// Of the open interval, the part up to the moment when the idle loop was last left.
#[inline(always)]
fn seen_idle_ns(slot: *mut CpuSlot) -> u64 {
    // SAFETY: only this CPU writes its slot, interrupts off.
    let (since, left) = unsafe {
        (
            read_volatile(&raw const (*slot).idle_since_monotonic_ns),
            read_volatile(&raw const (*slot).idle_left_monotonic_ns),
        )
    };
    if since == 0 || left == 0 {
        0
    } else {
        left.wrapping_sub(since)
    }
}

/// Ends the open interval with `idle_ns`, and opens another when the CPU idles, since `start_ns` by the runqueue's
/// task clock or `UNKNOWN`. The clock read for that is only for the drain, to close an interval that is still open
/// then.
#[inline(always)]
fn change(slot: *mut CpuSlot, idle_ns: u64, idle: Option<(Task, u64)>) {
    // SAFETY: only this CPU writes its slot, interrupts off; the agent reads between two even versions.
    unsafe {
        let version = read_volatile(&raw const (*slot).version);
        write_volatile(&raw mut (*slot).version, version + 1);
        if idle_ns.cast_signed() > 0 {
            let total = read_volatile(&raw const (*slot).idle_ns);
            write_volatile(&raw mut (*slot).idle_ns, total + idle_ns);
        }
        if let Some((idle, start_ns)) = idle {
            write_volatile(&raw mut (*slot).idle_since_monotonic_ns, bpf_ktime_get_ns());
            write_volatile(&raw mut (*slot).idle_start_ns, start_ns);
            write_volatile(&raw mut (*slot).idle_switches, idle.switches());
            write_volatile(&raw mut (*slot).idle_left_monotonic_ns, 0);
        } else {
            write_volatile(&raw mut (*slot).idle_since_monotonic_ns, 0);
        }
        write_volatile(&raw mut (*slot).seen, 1);
        write_volatile(&raw mut (*slot).version, version + 2);
    }
}
