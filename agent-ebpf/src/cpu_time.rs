//! `sched_switch` → `SLOTS` (absolute CPU time of the thread that leaves), and the final totals of a thread that
//! leaves for good → `EVENTS`.
//!
//! No clock is read while threads hand a CPU to each other: the kernel has already done the sum.

use core::ptr::{read_volatile, write_volatile};

use procscope_agent_common::{
    DropReason, EVENT_PROCESS_FREED, EVENT_THREAD_END, ProcessFreedEvent, SLOT_SUMMED, SLOT_WALKED,
    TASK_DEAD_BIT, ThreadEndEvent, ThreadSlot, thread_slot_index,
};

use crate::{
    idle,
    lifecycle::submit,
    maps::{EVENTS, SLOTS, add_to_overflow, count_drop, is_quiet},
    task::Task,
    waits,
};

/// `previous` leaves the CPU in `previous_state`, `next` gets it. Interrupts are off.
#[inline(always)]
pub(crate) fn on_switch(previous: Task, next: Task, previous_state: u32) {
    if previous.tid() == 0 {
        idle::end(previous, next);
        return;
    }
    let dead = previous_state & TASK_DEAD_BIT != 0;
    let slot = slot_of(previous);
    if let Some(slot) = slot {
        // SAFETY: only the CPU that switches this thread out writes its slot, interrupts off. Another thread
        // with the same slot may write on another CPU: its identity then differs, and that was counted.
        unsafe { write_volatile(&raw mut (*slot).cpu_time_ns, previous.cpu_time_ns()) };
        let runqueue_ns = previous.runqueue_ns();
        if waits::are_counted() {
            // SAFETY: as above.
            let before_ns = unsafe { read_volatile(&raw const (*slot).runqueue_ns) };
            waits::count(previous.tid(), runqueue_ns.wrapping_sub(before_ns));
        }
        // SAFETY: as above.
        unsafe { write_volatile(&raw mut (*slot).runqueue_ns, runqueue_ns) };
        if dead {
            // SAFETY: as above.
            unsafe { write_volatile(&raw mut (*slot).ended, 1) };
        }
    }
    if dead {
        send_thread_end(previous, slot);
    }
    if next.tid() == 0 {
        idle::begin(previous, next);
    }
}

/// The slot of a thread, made its own when it was another's.
#[inline(always)]
pub(crate) fn slot_of(task: Task) -> Option<*mut ThreadSlot> {
    let tid = task.tid();
    let slot = SLOTS.get_ptr_mut(thread_slot_index(tid))?;
    let start_boottime_ns = task.start_boottime_ns();
    // SAFETY: a slot of the map; words are read one at a time while others may write them.
    let owner = unsafe { read_volatile(&raw const (*slot).tid) };
    // SAFETY: as above.
    let owner_start = unsafe { read_volatile(&raw const (*slot).start_boottime_ns) };
    if owner == tid && owner_start == start_boottime_ns {
        return Some(slot);
    }
    // SAFETY: as above.
    if owner != 0 && owner != tid && unsafe { read_volatile(&raw const (*slot).ended) } == 0 {
        count_drop(DropReason::SlotCollision);
    }
    // SAFETY: as in `on_switch`: one writer, or a counted collision. The identity is zero while the rest
    // changes, so that a reader never takes one thread's figures for another's.
    unsafe {
        write_volatile(&raw mut (*slot).tid, 0);
        write_volatile(&raw mut (*slot).cpu_time_ns, 0);
        write_volatile(&raw mut (*slot).runqueue_ns, first_wait_base(task));
        write_volatile(&raw mut (*slot).peak_epoch, [0; 2]);
        write_volatile(&raw mut (*slot).ended, 0);
        write_volatile(&raw mut (*slot).walked, 0);
        write_volatile(&raw mut (*slot).start_boottime_ns, start_boottime_ns);
        write_volatile(&raw mut (*slot).tgid, task.tgid());
        write_volatile(&raw mut (*slot).tid, tid);
    }
    Some(slot)
}

/// What a thread had waited before the run or pause in which its slot becomes its own: nothing, or where waits are
/// counted one by one and it has run before, all of it.
#[inline(always)]
fn first_wait_base(task: Task) -> u64 {
    if !waits::are_counted() {
        return 0;
    }
    waits::clear(task.tid());
    if task.runqueue_waits() > 1 {
        task.runqueue_ns()
    } else {
        0
    }
}

/// `task`, which runs here, begins to exit. In quiet mode nothing is heard of it until it is freed: what it has used up to
/// the last tick stands in its slot meanwhile.
#[inline(always)]
pub(crate) fn on_exit(task: Task) {
    if !is_quiet() {
        return;
    }
    if let Some(slot) = slot_of(task) {
        // SAFETY: in quiet mode nobody else writes the slot of a thread that is not yet freed, but the walk, and that
        // writes another word of it.
        unsafe { write_volatile(&raw mut (*slot).cpu_time_ns, task.cpu_time_ns()) };
    }
}

/// `task` is freed: the last that is heard of it. Only in quiet mode nobody has told its end before.
#[inline(always)]
pub(crate) fn on_free(task: Task) {
    if !is_quiet() {
        return;
    }
    tell_end(task);
    if task.tid() == task.tgid() {
        send_process_freed(task);
    }
}

/// The end of a thread that is freed, unless it was told when the thread left its CPU.
#[inline(always)]
fn tell_end(task: Task) {
    let slot = slot_of(task);
    if let Some(slot) = slot {
        // SAFETY: the thread runs nowhere any more, so nobody else writes its slot.
        let told = unsafe { read_volatile(&raw const (*slot).ended) };
        if told != 0 {
            return;
        }
        // SAFETY: as above.
        unsafe {
            write_volatile(&raw mut (*slot).cpu_time_ns, task.cpu_time_ns());
            write_volatile(&raw mut (*slot).runqueue_ns, task.runqueue_ns());
            write_volatile(&raw mut (*slot).ended, 1);
        }
    }
    send_thread_end(task, slot);
}

/// A walk found `task`: what becomes of it is the agent's business now. True: it has ended, and what it used is in
/// the sums of lost ends.
#[inline(always)]
pub(crate) fn mark_walked(task: Task) -> bool {
    let Some(slot) = SLOTS.get_ptr_mut(thread_slot_index(task.tid())) else {
        return false;
    };
    // SAFETY: a slot of the map; words are read one at a time while others may write them.
    let (owner, ended) = unsafe {
        (
            read_volatile(&raw const (*slot).tid),
            read_volatile(&raw const (*slot).ended),
        )
    };
    // A slot that another living thread has is left to it.
    if owner != 0 && owner != task.tid() && ended == 0 {
        return false;
    }
    let Some(slot) = slot_of(task) else { return false };
    // SAFETY: one aligned word that only rises for this thread.
    unsafe {
        if read_volatile(&raw const (*slot).walked) == SLOT_SUMMED {
            return true;
        }
        write_volatile(&raw mut (*slot).walked, SLOT_WALKED);
    }
    false
}

/// The totals of a thread that never runs again. Without room for them the agent heals what it knows from the
/// slot; what it does not know is summed.
#[inline(always)]
fn send_thread_end(task: Task, slot: Option<*mut ThreadSlot>) {
    let Some(mut event) = EVENTS.reserve::<ThreadEndEvent>(0) else {
        count_drop(DropReason::RingFull);
        // SAFETY: one aligned word.
        let walked = slot.is_some_and(|slot| unsafe { read_volatile(&raw const (*slot).walked) } != 0);
        if !walked {
            add_to_overflow(task.cgroup_id(), task.totals());
            if let Some(slot) = slot {
                // SAFETY: as above.
                unsafe { write_volatile(&raw mut (*slot).walked, SLOT_SUMMED) };
            }
        }
        return;
    };
    event.write(ThreadEndEvent {
        kind: EVENT_THREAD_END,
        tid: task.tid(),
        process: task.process(),
        start_boottime_ns: task.start_boottime_ns(),
        totals: task.totals(),
    });
    submit(event);
}

/// What the kernel has summed up for the process, all threads together: an end that nobody heard is in it.
#[inline(always)]
fn send_process_freed(leader: Task) {
    let Some(mut event) = EVENTS.reserve::<ProcessFreedEvent>(0) else {
        count_drop(DropReason::RingFull);
        return;
    };
    event.write(ProcessFreedEvent {
        kind: EVENT_PROCESS_FREED,
        reserved: 0,
        process: leader.process(),
        totals: leader.signal().ended_totals(),
    });
    submit(event);
}
