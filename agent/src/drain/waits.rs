//! The map `WAITS`: run-queue waits by length, from threads to processes, from one interval to the next.

use procscope_agent_common::{ProcessKey, WAIT_BUCKETS, WaitSlot, thread_slot_index};

use super::{WaitsByProcess, shared::Shared};
use crate::fold::ByKey;

/// What one thread was found to have, and in which walk.
type Known = ([u32; WAIT_BUCKETS], u64);

/// Waits of all threads that are known.
pub(super) struct Waits {
    slots: Shared<WaitSlot>,
    threads: ByKey<(u32, u64), Known>,
    processes: WaitsByProcess,
    walk: u64,
}

impl Waits {
    pub(super) fn new(slots: Shared<WaitSlot>) -> Self {
        Self {
            slots,
            threads: ByKey::default(),
            processes: WaitsByProcess::default(),
            walk: 0,
        }
    }

    /// Adds what a thread has waited since it was last looked at. Its slot in `SLOTS` is its own.
    pub(super) fn look_at(&mut self, process: ProcessKey, tid: u32, start_boottime_ns: u64) {
        let Some(now) = self.slots.get(thread_slot_index(tid)) else {
            return;
        };
        let thread = self.threads.entry((tid, start_boottime_ns)).or_default();
        let sums = self.processes.entry(process).or_default();
        for ((sum, now), before) in sums.iter_mut().zip(now.counts).zip(thread.0) {
            *sum += u64::from(now.wrapping_sub(before));
        }
        *thread = (now.counts, self.walk);
    }

    pub(super) fn begin_walk(&mut self) {
        self.walk += 1;
    }

    /// Threads that the walk did not find are gone; a zombie is found, and must not count again.
    pub(super) fn end_walk(&mut self) {
        let walk = self.walk;
        self.threads.retain(|_thread, (_counts, seen)| *seen == walk);
    }

    /// The waits of each process since this was last asked.
    pub(super) fn take(&mut self) -> WaitsByProcess {
        std::mem::take(&mut self.processes)
    }
}
