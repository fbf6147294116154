//! Readings → what was used between them. Pure: time and readings are arguments, nothing fails.
//!
//! Every counter of a thread is absolute and only rises, so what a thread used since the last reading is the
//! difference; a process's total is the sum of these differences, whatever order its threads begin and end in.
//! A counter that falls is a torn read: it counts as no use, the greater value stays the base.

use std::{collections::HashMap, sync::Arc};

use procscope_agent_common::{
    ExecEvent, ExitEvent, ForkEvent, ProcessKey, TASK_HAS_MM, TASK_KERNEL_THREAD, TASK_ZOMBIE, TaskRecord,
    ThreadEndEvent, ThreadTotals,
};

/// Processes known at most; more are counted in `Folded::overflow` and not followed.
pub const PROCESSES_MAX: usize = 1 << 20;
/// Threads known at most.
pub const THREADS_MAX: usize = 1 << 21;
/// A thread that more walks than this did not find, and whose end nobody told, has ended unseen.
const WALKS_UNTIL_LOST: u64 = 2;
/// An exit event waits this long for the ends of threads that were never walked, in nanoseconds: a thread that
/// exits before the last one may still have a few instructions to go when the last one says that it exits.
const SETTLE_NS: u64 = 100_000_000;
/// After so many walks an exit is reported even if the end of a thread never came.
const EXIT_WALKS_MAX: u32 = 3;

/// A thread for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ThreadKey {
    tid: u32,
    start_boottime_ns: u64,
}

#[derive(Debug)]
struct Thread {
    process: ProcessKey,
    totals: ThreadTotals,
    /// It ran for the last time: `totals` are final.
    ended: bool,
    /// The last walk that found it.
    walk: u64,
}

/// What is known of a process beside its use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The parent when the process was first seen.
    pub parent: Option<ProcessKey>,
    /// Rises with each exec.
    pub exec_generation: u32,
    /// Real user id.
    pub uid: u32,
    /// Name of the command as the kernel has it: at most 15 bytes.
    pub comm: Vec<u8>,
    /// Id of the control group.
    pub cgroup_id: u64,
    /// Last part of the control group's path, when an event told it.
    pub cgroup_name: Vec<u8>,
    /// What was given to execve(2), when we saw the exec.
    pub filename: Vec<u8>,
    /// First arguments, each ended by zero, when we saw the exec.
    pub arguments: Vec<u8>,
    /// It runs in the kernel only.
    pub kernel_thread: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// As wait4(2) reports it; `None`: the event was lost.
    pub status: Option<u32>,
    /// When, nanoseconds of `CLOCK_BOOTTIME`.
    pub end_boottime_ns: u64,
    /// The OOM killer chose it; `None`: the event was lost.
    pub oom_killed: Option<bool>,
}

#[derive(Debug, Default)]
struct Process {
    facts: Arc<Facts>,
    totals: ThreadTotals,
    reported: ThreadTotals,
    first_seen: bool,
    /// Threads known and not ended.
    live_threads: u32,
    /// More than one thread was ever known.
    threaded: bool,
    any_ended: bool,
    /// `None`: no memory of its own, or not read.
    rss_pages: Option<u64>,
    interval_peak_pages: Option<u64>,
    lifetime_peak_pages: Option<u64>,
    noted_hiwater_pages: u64,
    exit: Option<Exit>,
    exit_walks: u32,
    /// The last walk that found it, or after which an event told of it.
    touched: u64,
    /// It was there before us: its marks may be older than the interval.
    before_us: bool,
    /// It had ended before us: no exit will be told.
    ended_before_us: bool,
}

/// One process in one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedProcess {
    /// Identity.
    pub key: ProcessKey,
    /// What is known of it.
    pub facts: Arc<Facts>,
    /// Use over the whole life.
    pub totals: ThreadTotals,
    /// Use in the interval.
    pub delta: ThreadTotals,
    /// Resident pages at the end of the interval; `None`: no address space.
    pub rss_pages: Option<u64>,
    /// Greatest resident set in the interval, in pages.
    pub peak_rss_pages: Option<u64>,
    /// Greatest resident set since the last exec, in pages.
    pub lifetime_peak_rss_pages: Option<u64>,
    /// Threads alive at the end of the interval.
    pub threads: u32,
    /// First time that the process is in a snapshot.
    pub first_seen: bool,
    /// Set when it ended in the interval.
    pub exit: Option<Exit>,
}

/// What one interval came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Every process that was alive in the interval.
    pub processes: Vec<FoldedProcess>,
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
    processes: HashMap<ProcessKey, Process>,
    threads: HashMap<ThreadKey, Thread>,
    /// Reported as ended, by the last walk that found a zombie of it: neither that nor a late end of one of its
    /// threads makes a new process.
    ended: HashMap<ProcessKey, u64>,
    walk: u64,
    /// The first walk tells what was there before us: its past belongs to no interval.
    seeded: bool,
    /// When the kernel programs were attached, nanoseconds of `CLOCK_BOOTTIME`.
    attached_boottime_ns: u64,
    torn_reads: u64,
    lost_ends: u64,
    overflow: u64,
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
        });
    }

    /// A process became another program.
    pub fn exec(&mut self, event: &ExecEvent) {
        if event.old_tid != event.process.tgid {
            self.take_over_leader(event);
        }
        let Some(process) = self.process(event.process) else {
            return;
        };
        let arguments = usize::try_from(event.arguments_len)
            .unwrap_or(0)
            .min(event.arguments.len());
        process.facts = Arc::new(Facts {
            parent: process.facts.parent.or(Some(event.parent)),
            exec_generation: event.exec_generation,
            uid: event.uid,
            comm: until_zero(&event.comm),
            cgroup_id: event.cgroup_id,
            cgroup_name: until_zero(&event.cgroup_name),
            filename: until_zero(&event.filename),
            arguments: event.arguments[..arguments].to_vec(),
            kernel_thread: false,
        });
        // A new address space. What the old one reached stays in the interval's peak, unless it was only the
        // copy of its parent's that every child begins with.
        process.interval_peak_pages = if process.first_seen && !process.before_us {
            None
        } else {
            process.interval_peak_pages.max(process.rss_pages)
        };
        process.rss_pages = None;
        process.lifetime_peak_pages = None;
        process.noted_hiwater_pages = 0;
        process.before_us = false;
    }

    /// A thread that is not the first called execve(2): it goes on under the first one's number and start.
    fn take_over_leader(&mut self, event: &ExecEvent) {
        let leader = ThreadKey {
            tid: event.process.tgid,
            start_boottime_ns: event.process.start_boottime_ns,
        };
        let gone = ThreadKey {
            tid: event.old_tid,
            start_boottime_ns: event.process.start_boottime_ns,
        };
        let caller = self
            .threads
            .iter()
            .find(|(key, thread)| {
                key.tid == event.old_tid && thread.process == event.process && **key != gone
            })
            .map(|(key, _)| *key);
        let old_leader = self.threads.remove(&leader);
        if let Some(thread) = caller.and_then(|caller| self.threads.remove(&caller)) {
            self.threads.insert(leader, thread);
        }
        if let Some(thread) = old_leader {
            self.threads.insert(gone, thread);
        }
    }

    /// The last thread of a process began to exit.
    pub fn exit(&mut self, event: &ExitEvent) {
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
            process.note_peak(event.peak_rss_pages, event.peak_rss_pages);
        }
        process.exit = Some(Exit {
            status: Some(event.exit_status),
            end_boottime_ns: event.end_boottime_ns,
            oom_killed: Some(event.oom_killed != 0),
        });
    }

    /// A thread ran for the last time. `peak_pages`: its peak in this interval, 0 when nothing was seen.
    pub fn thread_end(&mut self, event: &ThreadEndEvent, peak_pages: u64) {
        if self.ended.contains_key(&event.process) {
            self.lost_ends += 1;
            return;
        }
        let key = ThreadKey {
            tid: event.tid,
            start_boottime_ns: event.start_boottime_ns,
        };
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
        self.advance(key, event.process, event.totals, past);
        let Some(process) = self.processes.get_mut(&event.process) else {
            return;
        };
        process.end_thread(self.threads.get_mut(&key));
        if peak_pages > 0 {
            process.note_peak(peak_pages, 0);
        }
    }

    /// Begins a walk over all tasks.
    pub fn begin_walk(&mut self) {
        self.walk += 1;
    }

    /// The walk found a task. `peak_pages`: its peak in this interval, 0 when nothing was seen.
    pub fn task(&mut self, task: &TaskRecord, peak_pages: u64) {
        if let Some(walk) = self.ended.get_mut(&task.process) {
            *walk = self.walk;
            return;
        }
        let key = ThreadKey {
            tid: task.tid,
            start_boottime_ns: task.start_boottime_ns,
        };
        let is_leader = task.tid == task.process.tgid;
        let seeding = !self.seeded;
        self.advance(key, task.process, task.totals, seeding);
        let Some(process) = self.processes.get_mut(&task.process) else {
            return;
        };
        if seeding {
            process.before_us = true;
            if task.flags & TASK_ZOMBIE != 0 {
                // It ended before us: no event will tell.
                process.end_thread(self.threads.get_mut(&key));
                process.ended_before_us |= is_leader && task.threads <= 1;
            }
        }
        if is_leader {
            process.learn(task);
            if seeding {
                process.totals = add(process.totals, task.ended);
            }
        }
        if task.flags & TASK_HAS_MM != 0 {
            let pages = task.file_pages + task.anon_pages + task.shmem_pages;
            process.note_peak(pages.max(peak_pages), task.hiwater_pages);
            process.rss_pages = Some(pages);
        } else if peak_pages > 0 {
            process.note_peak(peak_pages, 0);
        }
    }

    /// Ends the interval: what was used in it, by each process that was alive in it. `last_word` tells what the
    /// scheduler last wrote of a thread: CPU time and run-queue wait.
    pub fn finish(
        &mut self,
        now_boottime_ns: u64,
        last_word: impl Fn(u32, u64) -> Option<(u64, u64)>,
    ) -> Folded {
        self.end_lost_threads(last_word);
        let mut folded = Folded::default();
        let (walk, seeded) = (self.walk, self.seeded);
        let ended = &mut self.ended;
        let mut lost_ends = 0;
        self.processes.retain(|key, process| {
            if !seeded {
                // The past of what was there before us.
                process.reported = process.totals;
                process.interval_peak_pages = process.rss_pages;
                return true;
            }
            let over = process.is_over(now_boottime_ns, walk, &mut lost_ends);
            if !over || process.exit.is_some() {
                folded.processes.push(process.sample(*key, over));
            }
            process.end_interval();
            if over {
                ended.insert(*key, walk);
            }
            !over
        });
        self.ended.retain(|_key, seen| walk - *seen <= WALKS_UNTIL_LOST);
        self.seeded = true;
        folded.torn_reads = std::mem::take(&mut self.torn_reads);
        folded.lost_ends = std::mem::take(&mut self.lost_ends) + lost_ends;
        folded.overflow = std::mem::take(&mut self.overflow);
        folded
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

    /// Threads that no walk finds any more: gone for good when their end was told, lost otherwise.
    fn end_lost_threads(&mut self, last_word: impl Fn(u32, u64) -> Option<(u64, u64)>) {
        let walk = self.walk;
        let mut lost = Vec::new();
        self.threads.retain(|key, thread| {
            if thread.walk == walk {
                return true;
            }
            if thread.ended {
                return false;
            }
            if walk - thread.walk > WALKS_UNTIL_LOST {
                lost.push((*key, thread.process, thread.totals));
                return false;
            }
            true
        });
        for (key, process, before) in lost {
            self.lost_ends += 1;
            let Some(process) = self.processes.get_mut(&process) else {
                continue;
            };
            process.live_threads = process.live_threads.saturating_sub(1);
            process.any_ended = true;
            process.touched = walk;
            if let Some((cpu_time_ns, runqueue_ns)) = last_word(key.tid, key.start_boottime_ns) {
                process.totals.cpu_time_ns += cpu_time_ns.saturating_sub(before.cpu_time_ns);
                process.totals.runqueue_ns += runqueue_ns.saturating_sub(before.runqueue_ns);
            }
        }
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
        process.touched = self.walk;
        Some(process)
    }

    /// Brings a thread to what was read of it now, and its process with it. `past`: what the thread has used
    /// since it was last read belongs to no interval.
    fn advance(&mut self, key: ThreadKey, process: ProcessKey, now: ThreadTotals, past: bool) {
        if self.threads.len() >= THREADS_MAX && !self.threads.contains_key(&key) {
            self.overflow += 1;
            return;
        }
        let walk = self.walk;
        let before = self.threads.get(&key).map(|thread| thread.totals);
        let (delta, torn) = rise(before.unwrap_or_default(), now);
        let Some(owner) = self.process(process) else {
            return;
        };
        if before.is_none() {
            owner.threaded |= owner.live_threads > 0 || owner.any_ended;
            owner.live_threads += 1;
        }
        owner.totals = add(owner.totals, delta);
        if past {
            owner.reported = add(owner.reported, delta);
        }
        let thread = self.threads.entry(key).or_insert(Thread {
            process,
            totals: ThreadTotals::default(),
            ended: false,
            walk,
        });
        thread.totals = add(thread.totals, delta);
        thread.walk = walk;
        self.torn_reads += torn;
    }
}

impl Process {
    /// Pages that were resident at once in this interval, and the mark that the kernel keeps for the life.
    fn note_peak(&mut self, pages: u64, hiwater_pages: u64) {
        let mut peak = pages;
        if hiwater_pages > self.noted_hiwater_pages {
            // The kernel raised its mark since we last looked, so it was reached in this interval; but the first
            // mark of a process that was there before us may be older.
            if self.noted_hiwater_pages > 0 || !self.before_us {
                peak = peak.max(hiwater_pages);
            }
            self.noted_hiwater_pages = hiwater_pages;
        }
        self.interval_peak_pages = self.interval_peak_pages.max(Some(peak));
        self.lifetime_peak_pages = self.lifetime_peak_pages.max(Some(peak.max(hiwater_pages)));
    }

    /// What the walk found at its first thread. Facts are copied only when they differ.
    fn learn(&mut self, task: &TaskRecord) {
        let kernel_thread = task.flags & TASK_KERNEL_THREAD != 0;
        let comm = task.comm.split(|byte| *byte == 0).next().unwrap_or_default();
        let known = &*self.facts;
        if known.uid == task.uid
            && known.exec_generation == task.exec_generation
            && known.kernel_thread == kernel_thread
            && known.parent.is_some()
            && known.comm == comm
            && known.cgroup_id == task.cgroup_id
        {
            return;
        }
        let facts = Arc::make_mut(&mut self.facts);
        facts.uid = task.uid;
        facts.exec_generation = task.exec_generation;
        facts.kernel_thread = kernel_thread;
        facts.parent = facts.parent.or(Some(task.parent));
        facts.comm = comm.to_vec();
        if facts.cgroup_id != task.cgroup_id {
            facts.cgroup_id = task.cgroup_id;
            facts.cgroup_name.clear();
        }
    }

    fn end_thread(&mut self, thread: Option<&mut Thread>) {
        if let Some(thread) = thread.filter(|thread| !thread.ended) {
            thread.ended = true;
            self.live_threads = self.live_threads.saturating_sub(1);
            self.any_ended = true;
        }
    }

    fn delta(&self) -> ThreadTotals {
        rise(self.reported, self.totals).0
    }

    /// Whether everything about its end is known, or will never be.
    fn is_over(&mut self, now_boottime_ns: u64, walk: u64, lost_ends: &mut u64) -> bool {
        let Some(exit) = self.exit else {
            if self.live_threads > 0 || walk - self.touched <= WALKS_UNTIL_LOST {
                return false;
            }
            if !self.ended_before_us {
                *lost_ends += 1;
                self.exit = Some(Exit {
                    status: None,
                    end_boottime_ns: now_boottime_ns,
                    oom_killed: None,
                });
            }
            return true;
        };
        let settled = !self.threaded || now_boottime_ns.saturating_sub(exit.end_boottime_ns) >= SETTLE_NS;
        if self.live_threads == 0 && self.any_ended && settled {
            return true;
        }
        self.exit_walks += 1;
        if self.exit_walks <= EXIT_WALKS_MAX {
            return false;
        }
        *lost_ends += 1;
        true
    }

    fn sample(&self, key: ProcessKey, over: bool) -> FoldedProcess {
        FoldedProcess {
            key,
            facts: self.facts.clone(),
            totals: self.totals,
            delta: self.delta(),
            rss_pages: if over { None } else { self.rss_pages },
            peak_rss_pages: self.interval_peak_pages.max(self.rss_pages),
            lifetime_peak_rss_pages: self.lifetime_peak_pages,
            threads: if over { 0 } else { self.live_threads },
            first_seen: self.first_seen,
            exit: if over { self.exit } else { None },
        }
    }

    fn end_interval(&mut self) {
        self.reported = self.totals;
        self.first_seen = false;
        // The next interval begins with what is resident now.
        self.interval_peak_pages = self.rss_pages;
    }
}

/// What each counter rose by, and how many fell.
fn rise(before: ThreadTotals, now: ThreadTotals) -> (ThreadTotals, u64) {
    let mut torn = 0;
    let mut by = |before: u64, now: u64| {
        now.checked_sub(before).unwrap_or_else(|| {
            torn += 1;
            0
        })
    };
    let delta = ThreadTotals {
        cpu_time_ns: by(before.cpu_time_ns, now.cpu_time_ns),
        runqueue_ns: by(before.runqueue_ns, now.runqueue_ns),
        voluntary_switches: by(before.voluntary_switches, now.voluntary_switches),
        involuntary_switches: by(before.involuntary_switches, now.involuntary_switches),
        minor_faults: by(before.minor_faults, now.minor_faults),
        major_faults: by(before.major_faults, now.major_faults),
    };
    (delta, torn)
}

fn add(a: ThreadTotals, b: ThreadTotals) -> ThreadTotals {
    ThreadTotals {
        cpu_time_ns: a.cpu_time_ns.saturating_add(b.cpu_time_ns),
        runqueue_ns: a.runqueue_ns.saturating_add(b.runqueue_ns),
        voluntary_switches: a.voluntary_switches.saturating_add(b.voluntary_switches),
        involuntary_switches: a.involuntary_switches.saturating_add(b.involuntary_switches),
        minor_faults: a.minor_faults.saturating_add(b.minor_faults),
        major_faults: a.major_faults.saturating_add(b.major_faults),
    }
}

/// A string of the kernel without its ending zero.
fn until_zero(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|byte| *byte != 0).collect()
}
