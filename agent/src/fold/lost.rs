//! Ends that nobody told: when a thread is given up, and what is still known of it then. Pure.

use super::Fold;

/// A thread that more walks than this did not find, and whose end nobody told, has ended unseen.
pub(super) const WALKS_UNTIL_LOST: u64 = 2;
/// … and that was not found for so long, in nanoseconds: in quiet mode an end is told when the task is freed, which
/// the kernel does at its leisure.
pub(super) const LOST_AFTER_NS: u64 = 2_000_000_000;

/// What the scheduler last said of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastWord {
    /// Its CPU time, nanoseconds.
    pub cpu_time_ns: u64,
    /// Its run-queue wait, nanoseconds.
    pub runqueue_ns: u64,
    /// It was its last: if nobody has told its end by now, nobody will.
    pub ended: bool,
}

/// A process that was reported as ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// The last walk that found a zombie of it, or in which it was reported.
    pub(super) walk: u64,
    pub(super) boottime_ns: u64,
    /// Nothing of it was missing: what is told of it later says nothing new.
    pub(super) complete: bool,
    /// The kernel's own sum over its threads was told: whatever comes later is in it.
    pub(super) summed: bool,
}

impl Fold {
    /// Takes note of threads that the walk did not find and that have ended by their slots, and says whether there are
    /// any. Their ends may have been told since the last look at the events: after one more look they are lost.
    ///
    /// In quiet mode a thread that exits says what it has used so far, and its end is told later: what is known of it
    /// belongs to this interval.
    pub fn note_missing(&mut self, last_word: impl Fn(u32, u64) -> Option<LastWord>) -> bool {
        let walk = self.walk;
        let mut any = false;
        for (key, thread) in &mut self.threads {
            if thread.walk == walk || thread.ended {
                continue;
            }
            let Some(word) = last_word(key.tid, key.start_boottime_ns) else {
                continue;
            };
            thread.seen_ended = word.ended;
            any |= thread.seen_ended;
            let so_far_ns = word.cpu_time_ns.saturating_sub(thread.totals.cpu_time_ns);
            if self.quiet
                && so_far_ns > 0
                && let Some(process) = self.processes.get_mut(&thread.process)
            {
                thread.totals.cpu_time_ns += so_far_ns;
                process.totals.cpu_time_ns += so_far_ns;
                process.changed = true;
            }
        }
        any
    }

    /// Threads that no walk finds any more: gone for good when their end was told, lost otherwise.
    pub(super) fn end_lost_threads(
        &mut self,
        now_boottime_ns: u64,
        last_word: impl Fn(u32, u64) -> Option<LastWord>,
    ) {
        let (walk, begun_boottime_ns) = (self.walk, self.begun_boottime_ns);
        let mut lost = Vec::new();
        self.threads.retain(|key, thread| {
            if thread.walk == walk {
                return true;
            }
            let summed = match self.processes.get(&thread.process) {
                Some(process) => process.summed.is_some(),
                None => self.ended.get(&thread.process).is_some_and(|ended| ended.summed),
            };
            if thread.ended || summed {
                return false;
            }
            let from_proc = self
                .processes
                .get(&thread.process)
                .is_some_and(|process| process.facts.from_proc);
            let word = last_word(key.tid, key.start_boottime_ns);
            let certain = from_proc || (thread.seen_ended && word.is_some_and(|word| word.ended));
            let long_ago = now_boottime_ns.saturating_sub(thread.seen_boottime_ns) >= LOST_AFTER_NS;
            if certain || (long_ago && walk - thread.walk > WALKS_UNTIL_LOST) {
                lost.push((*key, word, thread.process, thread.totals));
                return false;
            }
            true
        });
        for (thread, word, whose, before) in lost {
            let Some(process) = self.processes.get_mut(&whose) else {
                self.lost_ends += 1;
                continue;
            };
            // That ends are not told is what sampling means.
            self.lost_ends += u64::from(!process.facts.from_proc);
            process.live_threads = process.live_threads.saturating_sub(1);
            process.any_ended = true;
            process.changed = true;
            process.any_lost |= !process.facts.from_proc;
            // It is counted here and once.
            process.leader_ended |= thread.tid == whose.tgid;
            process.touched = walk;
            process.touched_boottime_ns = begun_boottime_ns;
            if let Some(word) = word {
                process.totals.cpu_time_ns += word.cpu_time_ns.saturating_sub(before.cpu_time_ns);
                process.totals.runqueue_ns += word.runqueue_ns.saturating_sub(before.runqueue_ns);
            }
        }
    }
}
