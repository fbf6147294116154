//! Readings → what was used between them. Pure: time and readings are arguments, nothing fails.
//!
//! Every counter of a thread is absolute and only rises, so what a thread used since the last reading is the
//! difference; a process's total is the sum of these differences, whatever order its threads begin and end in.
//! A counter that falls is a torn read: it counts as no use, the greater value stays the base.

mod exec;
mod lost;
mod process;
mod row;
mod split;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use indexmap::IndexMap;
use procscope_agent_common::{
    ExitEvent, ForkEvent, ProcessFreedEvent, ProcessKey, ThreadEndEvent, ThreadTotals,
};
use rustc_hash::{FxBuildHasher, FxHashMap};

pub use lost::LastWord;
use lost::{Ended, LOST_AFTER_NS, WALKS_UNTIL_LOST};
pub use process::{Exit, Facts, FoldedProcess, Memory, Standing};
use process::{Process, add, rise, until_zero};
pub use row::{Place, Row};
pub use split::CpuSplit;
pub use walk::Found;

/// Processes known at most; more are counted in `Folded::overflow` and not followed.
pub const PROCESSES_MAX: usize = 1 << 20;
/// Threads known at most.
pub const THREADS_MAX: usize = 1 << 21;

/// By numbers and starts that the kernel gives: nobody can choose enough of them to make a cheap hash slow.
pub type ByKey<K, V> = FxHashMap<K, V>;

/// The same, with the values in a row in the order in which they came: a walk finds tasks in the order of their
/// numbers, and so goes through memory in order, too.
type InOrder<K, V> = IndexMap<K, V, FxBuildHasher>;

/// When a thread used what was read of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Used {
    /// In the open interval.
    Now,
    /// Before there were intervals.
    Before,
    /// At a time that other figures stand for, or none.
    Elsewhere,
}

/// A thread for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ThreadKey {
    tid: u32,
    start_boottime_ns: u64,
}

impl ThreadKey {
    const fn new(tid: u32, start_boottime_ns: u64) -> Self {
        Self {
            tid,
            start_boottime_ns,
        }
    }
}

#[derive(Debug)]
struct Thread {
    process: ProcessKey,
    totals: ThreadTotals,
    /// What the last walk found it to have used, nanoseconds.
    walked_cpu_time_ns: u64,
    /// It ran for the last time: `totals` are final.
    ended: bool,
    /// Missing, and ended by its slot, before the last look at the events.
    seen_ended: bool,
    /// Walks that found it to have ended and not yet reaped.
    zombie_walks: u8,
    /// The last walk that found it.
    walk: u64,
    /// When the interval of that walk began, nanoseconds of `CLOCK_BOOTTIME`.
    seen_boottime_ns: u64,
}

/// What one interval came to, beside its rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Counters that fell.
    pub torn_reads: u64,
    /// Ends of threads and processes that nobody told.
    pub lost_ends: u64,
    /// Processes or threads beyond the bounds, not followed.
    pub overflow: u64,
}

/// What is known of all processes, from one interval to the next.
#[derive(Debug, Default)]
pub struct Fold {
    processes: InOrder<ProcessKey, Process>,
    threads: InOrder<ThreadKey, Thread>,
    /// Reported as ended, by the last walk that found a zombie of it: neither that nor a late end of one of its
    /// threads makes a new process.
    ended: ByKey<ProcessKey, Ended>,
    walk: u64,
    /// The first walk tells what was there before us: its past belongs to no interval.
    seeded: bool,
    /// When the open interval began, nanoseconds of `CLOCK_BOOTTIME`.
    begun_boottime_ns: u64,
    /// When the kernel programs were attached, nanoseconds of `CLOCK_BOOTTIME`.
    attached_boottime_ns: u64,
    /// Ends are told late.
    quiet: bool,
    /// The last walk of an interval in which events found no room.
    events_lost: Option<u64>,
    exits_waiting: u64,
    torn_reads: u64,
    lost_ends: u64,
    overflow: u64,
    /// A walk said that a thread had not run since the last one, and it is not known.
    met_stranger: bool,
}

impl Fold {
    /// Nothing known yet. What started before `attached_boottime_ns` has a past that belongs to no interval.
    #[must_use]
    pub fn new(attached_boottime_ns: u64) -> Self {
        Self {
            attached_boottime_ns,
            ..Self::default()
        }
    }

    /// A process was made.
    pub fn fork(&mut self, event: &ForkEvent) {
        let inherited = self
            .processes
            .get(&event.parent)
            .map(|parent| Arc::clone(&parent.facts));
        let Some(process) = self.process(event.process) else {
            return;
        };
        let inherited = inherited.unwrap_or_default();
        let same_group = inherited.cgroup_id == event.cgroup_id;
        process.facts = Arc::new(Facts {
            parent: Some(event.parent),
            exec_generation: event.exec_generation,
            uid: event.uid,
            comm: until_zero(&event.comm),
            cgroup_id: event.cgroup_id,
            // A child stays in its parent's group and runs its program until it says otherwise.
            cgroup_name: if same_group {
                inherited.cgroup_name.clone()
            } else {
                Vec::new()
            },
            filename: inherited.filename.clone(),
            arguments: inherited.arguments.clone(),
            kernel_thread: inherited.kernel_thread,
            from_proc: false,
            namespace_pid: Some(event.namespace_pid).filter(|pid| *pid != 0),
        });
    }

    /// The last thread of a process began to exit.
    pub fn exit(&mut self, event: &ExitEvent) {
        let quiet = self.quiet;
        let Some(process) = self.process(event.process) else {
            return;
        };
        let facts = Arc::make_mut(&mut process.facts);
        facts.uid = event.uid;
        facts.exec_generation = event.exec_generation;
        facts.parent = facts.parent.or(Some(event.parent));
        facts.comm = until_zero(&event.comm);
        facts.cgroup_id = event.cgroup_id;
        facts.cgroup_name = until_zero(&event.cgroup_name);
        if event.has_mm != 0 {
            process.note_peak(event.rss_pages, event.hiwater_pages);
        }
        process.used_at_exit_ns = event.cpu_time_ns;
        process.threaded |= event.tid != event.process.tgid || event.threads > 1;
        process.exit = Some(Exit {
            status: Some(event.exit_status),
            end_boottime_ns: event.end_boottime_ns,
            oom_killed: Some(event.oom_killed != 0),
        });
        self.exits_waiting += 1;
        if quiet {
            self.take_use_at_exit(event);
        }
    }

    /// The end of the one thread that a process had is told late: what it has used by its exit belongs to the open
    /// interval.
    fn take_use_at_exit(&mut self, event: &ExitEvent) {
        let key = ThreadKey::new(event.tid, event.process.start_boottime_ns);
        let alone = self.processes.get(&event.process).is_some_and(|process| {
            !process.threaded && !process.any_ended && event.threads <= 1 && event.tid == event.process.tgid
        });
        let late = event.process.start_boottime_ns < self.attached_boottime_ns || self.is_late(key);
        if !alone || (late && !self.threads.contains_key(&key)) {
            return;
        }
        let known = self
            .threads
            .get(&key)
            .map_or_else(ThreadTotals::default, |thread| thread.totals);
        let so_far = ThreadTotals {
            cpu_time_ns: event.cpu_time_ns,
            ..ThreadTotals::default()
        };
        _ = self.advance(key, event.process, known.combine(so_far, u64::max), Used::Now);
    }

    /// A thread ran for the last time. `peak_pages`: its peak in this interval, 0 when nothing was seen.
    pub fn thread_end(&mut self, event: &ThreadEndEvent, peak_pages: u64) {
        if let Some(ended) = self.ended.get(&event.process) {
            // Only a first thread can be given up as a zombie; of another nothing was known yet, unless the kernel's
            // own sum was.
            let is_known = ended.summed || (ended.complete && event.tid == event.process.tgid);
            self.lost_ends += u64::from(!is_known);
            return;
        }
        let key = ThreadKey::new(event.tid, event.start_boottime_ns);
        self.meet_old_leader(key, event.process);
        let past = event.start_boottime_ns < self.attached_boottime_ns && !self.threads.contains_key(&key);
        if past
            && self
                .processes
                .get(&event.process)
                .is_some_and(|process| process.before_us)
        {
            // It ended while the first walk was under way: the process's past may hold it already.
            self.torn_reads += 1;
            return;
        }
        let used = if past {
            Used::Before
        } else if self.is_late(key) {
            self.lost_ends += 1;
            if !self.processes.contains_key(&event.process) {
                return;
            }
            Used::Elsewhere
        } else {
            Used::Now
        };
        let Some((process, thread)) = self.advance(key, event.process, event.totals, used) else {
            return;
        };
        process.end_thread(thread);
        process.leader_ended |= event.tid == event.process.tgid;
        if peak_pages > 0 {
            process.note_peak(peak_pages, 0);
        }
    }

    /// Whether a thread that no walk found ended before this interval, in a time of which nobody knows how much is
    /// missing: in quiet mode its end is told late.
    fn is_late(&self, key: ThreadKey) -> bool {
        /// Walks within which the kernel has freed whoever ended before the events were lost.
        const WALKS_UNTIL_FREED: u64 = 2;
        let lately = |walk| self.walk - walk <= WALKS_UNTIL_FREED;
        self.quiet
            && self.events_lost.is_some_and(lately)
            && key.start_boottime_ns < self.begun_boottime_ns
            && !self.threads.contains_key(&key)
    }

    /// The last of a process was freed: what all its threads have used.
    pub fn process_freed(&mut self, event: &ProcessFreedEvent) {
        if let Some(process) = self.processes.get_mut(&event.process) {
            process.changed = true;
            process.summed = Some(event.totals);
        }
    }

    /// Events found no room in this interval: what nobody told of a process may be in the sums of lost ends.
    pub fn note_lost_events(&mut self) {
        self.events_lost = Some(self.walk);
    }

    /// Exits that were told since the last interval ended.
    #[must_use]
    pub fn exits_waiting(&self) -> u64 {
        self.exits_waiting
    }

    /// From here on the end of a thread is told when the task is freed, at the kernel's leisure.
    pub fn go_quiet(&mut self) {
        self.quiet = true;
    }

    /// Ends the interval: what was used in it, by each process that was alive in it. `last_word` tells what the
    /// scheduler last wrote of a thread, by its number and start. `tell` is given a row for each process, and says
    /// where it put it.
    pub fn finish(
        &mut self,
        now_boottime_ns: u64,
        last_word: impl Fn(u32, u64) -> Option<LastWord>,
        mut tell: impl FnMut(Row<'_>) -> Place,
    ) -> Folded {
        self.end_lost_threads(now_boottime_ns, last_word);
        let mut folded = Folded::default();
        self.exits_waiting = 0;
        let (walk, seeded, quiet) = (self.walk, self.seeded, self.quiet);
        let room_ns = if self.events_lost.is_some() {
            0
        } else {
            now_boottime_ns.saturating_sub(self.begun_boottime_ns)
        };
        let ended = &mut self.ended;
        let mut lost_ends = 0;
        self.processes.retain(|key, process| {
            if !seeded {
                // The past of what was there before us.
                process.settle();
                process.end_interval();
                process.first_seen = true;
                return true;
            }
            let lost_before = lost_ends;
            let over = process.is_over(now_boottime_ns, walk, quiet, &mut lost_ends);
            if !over && process.has_its_row() {
                process.place = tell(Row::Same(process.place, process.threads()));
                return true;
            }
            process.settle();
            if over {
                process.make_good(room_ns);
            }
            if !over || process.exit.is_some() {
                process.place = tell(Row::Anew(&process.sample(*key, over)));
            }
            process.row_stands = !process.changed;
            process.changed = false;
            process.end_interval();
            if over {
                let end = Ended {
                    walk,
                    boottime_ns: now_boottime_ns,
                    complete: lost_ends == lost_before && !process.any_lost,
                    summed: process.summed.is_some(),
                };
                ended.insert(*key, end);
            }
            !over
        });
        self.ended.retain(|_key, ended| {
            walk - ended.walk <= WALKS_UNTIL_LOST
                || now_boottime_ns.saturating_sub(ended.boottime_ns) < LOST_AFTER_NS
        });
        self.seeded = true;
        self.begun_boottime_ns = now_boottime_ns;
        folded.torn_reads = std::mem::take(&mut self.torn_reads);
        folded.lost_ends = std::mem::take(&mut self.lost_ends) + lost_ends;
        folded.overflow = std::mem::take(&mut self.overflow);
        folded
    }

    /// Whether a process of this number is known now.
    #[must_use]
    pub fn knows(&self, tgid: u32) -> bool {
        self.processes.keys().any(|key| key.tgid == tgid)
    }

    /// Processes known now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether nothing is known yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    fn process(&mut self, key: ProcessKey) -> Option<&mut Process> {
        if self.processes.len() >= PROCESSES_MAX && !self.processes.contains_key(&key) {
            self.overflow += 1;
            return None;
        }
        let process = self.processes.entry(key).or_insert_with(|| Process {
            first_seen: true,
            ..Process::default()
        });
        process.changed = true;
        process.touched = self.walk;
        process.touched_boottime_ns = self.begun_boottime_ns;
        Some(process)
    }

    /// Brings a thread to what was read of it now, and its process with it. `used`: when, since it was last read.
    fn advance(
        &mut self,
        key: ThreadKey,
        process: ProcessKey,
        now: ThreadTotals,
        used: Used,
    ) -> Option<(&mut Process, &mut Thread)> {
        if self.threads.len() >= THREADS_MAX && !self.threads.contains_key(&key) {
            self.overflow += 1;
            return None;
        }
        let (walk, begun_boottime_ns) = (self.walk, self.begun_boottime_ns);
        self.process(process)?;
        let owner = self.processes.get_mut(&process)?;
        let thread = self.threads.entry(key).or_insert_with(|| {
            owner.threaded |= key.tid != process.tgid || owner.live_threads > 0 || owner.any_ended;
            owner.live_threads += 1;
            Thread {
                process,
                totals: ThreadTotals::default(),
                walked_cpu_time_ns: 0,
                seen_ended: false,
                zombie_walks: 0,
                ended: false,
                walk,
                seen_boottime_ns: begun_boottime_ns,
            }
        });
        let (delta, torn) = rise(thread.totals, now);
        thread.totals = add(thread.totals, delta);
        if used == Used::Elsewhere {
            thread.walked_cpu_time_ns = thread.totals.cpu_time_ns;
        }
        thread.walk = walk;
        thread.seen_boottime_ns = begun_boottime_ns;
        if used == Used::Elsewhere {
            owner.told_elsewhere = true;
        } else {
            owner.totals = add(owner.totals, delta);
        }
        if used == Used::Before {
            owner.reported = add(owner.reported, delta);
        }
        self.torn_reads += torn;
        Some((owner, thread))
    }
}
