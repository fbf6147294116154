//! What a walk over all tasks finds, and what is learnt from it. Pure.

use procscope_agent_common::{
    ProcessKey, StillRecord, StillThreadRecord, TASK_SUMMED, TASK_ZOMBIE, TaskRecord,
};

use super::{Fold, ThreadKey, Used, process::add};

/// A task as a walk found it.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack, between the walk and the fold"
)]
pub enum Found {
    /// It has run since the last walk, or may have, or that walk did not find it.
    Task(TaskRecord),
    /// The first thread of a process, and it has not run since the last walk.
    Still(StillRecord),
    /// Another thread, and it has not run since the last walk.
    StillThread(StillThreadRecord),
}

impl Found {
    /// The thread, its start and its process.
    #[must_use]
    pub fn whose(&self) -> (u32, u64, ProcessKey) {
        match self {
            Self::Task(task) => (task.tid, task.start_boottime_ns, task.process),
            Self::Still(task) => (task.tid, task.start_boottime_ns, task.process),
            Self::StillThread(task) => (task.tid, task.start_boottime_ns, task.process),
        }
    }
}

impl Fold {
    /// Begins a walk over all tasks.
    pub fn begin_walk(&mut self) {
        self.walk += 1;
    }

    /// The walk found a task. `peak_pages`: its peak in this interval, 0 when nothing was seen.
    pub fn found(&mut self, found: &Found, peak_pages: u64) {
        match found {
            Found::Task(task) => self.task(task, peak_pages),
            Found::Still(task) => {
                let key = ThreadKey::new(task.tid, task.start_boottime_ns);
                if self.is_still(key, task.process) {
                    let (walk, begun_boottime_ns) = (self.walk, self.begun_boottime_ns);
                    let Some(process) = self.processes.get_mut(&task.process) else {
                        self.met_stranger = true;
                        return;
                    };
                    process.touched = walk;
                    process.touched_boottime_ns = begun_boottime_ns;
                    process.meet_still(&task.now, peak_pages);
                }
            }
            Found::StillThread(task) => {
                let key = ThreadKey::new(task.tid, task.start_boottime_ns);
                // Its process lives as long as one of its threads does, whenever it was last touched.
                if self.is_still(key, task.process)
                    && peak_pages > 0
                    && let Some(process) = self.processes.get_mut(&task.process)
                {
                    process.changed = true;
                    process.note_peak(peak_pages, 0);
                }
            }
        }
    }

    /// Takes note of a thread that has not run since the last walk told of it. False: there is nothing to add to.
    fn is_still(&mut self, key: ThreadKey, process: ProcessKey) -> bool {
        let Some(thread) = self.threads.get_mut(&key) else {
            self.met_stranger |= !self.is_ended_zombie(process);
            return false;
        };
        thread.walk = self.walk;
        thread.seen_boottime_ns = self.begun_boottime_ns;
        !self.is_ended_zombie(process)
    }

    /// Whether a process was reported as ended; a zombie of it was just found.
    fn is_ended_zombie(&mut self, process: ProcessKey) -> bool {
        let Some(ended) = self.ended.get_mut(&process) else {
            return false;
        };
        ended.walk = self.walk;
        ended.boottime_ns = self.begun_boottime_ns;
        true
    }

    /// Whether the next walk must tell all tasks whole, because the last one told too little of one.
    pub fn take_met_stranger(&mut self) -> bool {
        std::mem::take(&mut self.met_stranger)
    }

    /// The walk found a task and told all of it.
    pub fn task(&mut self, task: &TaskRecord, peak_pages: u64) {
        if self.is_ended_zombie(task.process) {
            return;
        }
        let key = ThreadKey::new(task.tid, task.start_boottime_ns);
        self.meet_old_leader(key, task.process);
        let is_leader = task.tid == task.process.tgid;
        let (seeding, quiet) = (!self.seeded, self.quiet);
        let summed = task.now.flags & TASK_SUMMED != 0;
        let used = match (summed, seeding) {
            (true, _) => Used::Elsewhere,
            (false, true) => Used::Before,
            (false, false) => Used::Now,
        };
        let Some((process, thread)) = self.advance(key, task.process, task.totals, used) else {
            return;
        };
        thread.walked_cpu_time_ns = thread.totals.cpu_time_ns;
        let zombie = task.now.flags & TASK_ZOMBIE != 0;
        if (seeding && zombie) || summed {
            // It ended before us, or its end was lost: no event will tell.
            process.end_thread(thread);
            if summed && is_leader {
                process.leader_ended = true;
                process.used_at_exit_ns = task.totals.cpu_time_ns + task.ended.cpu_time_ns;
            }
        } else if zombie && process.exit.is_some() {
            // Found twice, it runs no more: its totals are final, whoever tells of its end, and when.
            thread.zombie_walks = thread.zombie_walks.saturating_add(1);
            if thread.zombie_walks > 1 {
                process.end_thread(thread);
                process.leader_ended |= is_leader;
                if quiet && is_leader && task.threads <= 1 {
                    process.summed = Some(add(task.ended, task.totals));
                }
            }
        }
        if seeding {
            process.before_us = true;
            process.ended_before_us |= zombie && is_leader && task.threads <= 1;
        }
        if is_leader {
            process.learn(task);
            if seeding {
                process.totals = add(process.totals, task.ended);
            }
        }
        process.note_memory(&task.now, peak_pages);
    }
}
