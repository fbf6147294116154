//! One process between two intervals: what is known of it, its memory peaks, and when its end is certain. Pure.

use std::sync::Arc;

use procscope_agent_common::{
    OPEN_FILES_SAME, OPEN_FILES_UNKNOWN, Present, ProcessKey, TASK_FROM_PROC, TASK_HAS_MM,
    TASK_KERNEL_THREAD, TASK_PROC_IO, TaskRecord, ThreadTotals,
};

use super::{CpuSplit, LOST_AFTER_NS, Place, Thread, WALKS_UNTIL_LOST};

/// An exit event waits this long for the ends of threads that were never walked, in nanoseconds: a thread that
/// exits before the last one may still have a few instructions to go when the last one says that it exits.
const SETTLE_NS: u64 = 100_000_000;
/// After so many walks an exit is reported even if the end of a thread never came.
const EXIT_WALKS_MAX: u32 = 3;

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
    /// Its number in its own pid namespace; `None`: not known.
    pub namespace_pid: Option<u32>,
    /// Last part of the control group's path, when an event told it.
    pub cgroup_name: Vec<u8>,
    /// What was given to execve(2), when we saw the exec.
    pub filename: Vec<u8>,
    /// First arguments, each ended by zero, when we saw the exec.
    pub arguments: Vec<u8>,
    /// It runs in the kernel only.
    pub kernel_thread: bool,
    /// Sampled from /proc: what the scheduler counts for threads is not known, nor is how it ended.
    pub from_proc: bool,
}

/// The address space of a process at the end of an interval, in pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, backed by files.
    pub file_pages: u64,
    /// Resident, anonymous.
    pub anon_pages: u64,
    /// Resident, shared memory.
    pub shmem_pages: u64,
    /// Swapped out.
    pub swap_pages: u64,
    /// The whole address space.
    pub virtual_pages: u64,
}

impl Memory {
    /// Resident pages of all kinds.
    #[must_use]
    pub fn rss_pages(self) -> u64 {
        self.file_pages
            .saturating_add(self.anon_pages)
            .saturating_add(self.shmem_pages)
    }
}

/// What else a walk finds at the first thread of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Open file descriptors; `None`: not counted.
    pub open_files: Option<u32>,
    /// File descriptors that may be open; `None`: not read.
    pub open_files_limit: Option<u64>,
    /// Threads, when they are not followed one by one.
    pub threads: Option<u32>,
    /// Figures of I/O were read, when that is not so for all processes or none.
    pub io_read: bool,
    /// The letter of /proc/PID/stat.
    pub state: char,
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that came at its own time"
)]
pub(super) struct Process {
    pub(super) facts: Arc<Facts>,
    pub(super) totals: ThreadTotals,
    pub(super) reported: ThreadTotals,
    pub(super) first_seen: bool,
    /// Threads known and not ended.
    pub(super) live_threads: u32,
    /// There was more than one thread.
    pub(super) threaded: bool,
    pub(super) any_ended: bool,
    /// The end of a thread was never told.
    pub(super) any_lost: bool,
    /// The end of its first thread was told.
    pub(super) leader_ended: bool,
    /// What the kernel has summed up over all its threads, told when the last of it was freed.
    pub(super) summed: Option<ThreadTotals>,
    /// What one of its threads used is not in its totals.
    pub(super) told_elsewhere: bool,
    /// What it had used by the time it ended, at least, nanoseconds.
    pub(super) used_at_exit_ns: u64,
    /// `None`: no memory of its own, or not read.
    pub(super) memory: Option<Memory>,
    pub(super) standing: Option<Standing>,
    pub(super) split: CpuSplit,
    pub(super) reported_split: CpuSplit,
    /// What threads have used in this interval that ended in it, nanoseconds.
    pub(super) ended_threads_cpu_time_ns: u64,
    pub(super) interval_peak_pages: Option<u64>,
    pub(super) lifetime_peak_pages: Option<u64>,
    pub(super) noted_hiwater_pages: u64,
    pub(super) exit: Option<Exit>,
    pub(super) exit_walks: u32,
    /// The last walk that found it, or after which an event told of it.
    pub(super) touched: u64,
    /// When the interval of that walk began, nanoseconds of `CLOCK_BOOTTIME`.
    pub(super) touched_boottime_ns: u64,
    /// It was there before us: its marks may be older than the interval.
    pub(super) before_us: bool,
    /// The thread whose number the first one was found to have, before the exec that tells why.
    pub(super) taken_over: Option<u32>,
    /// It had ended before us: no exit will be told.
    pub(super) ended_before_us: bool,
    /// Something was learnt of it in this interval.
    pub(super) changed: bool,
    /// Its last row told that nothing had changed in that interval.
    pub(super) row_stands: bool,
    /// Where its last row is.
    pub(super) place: Place,
}

/// One process in one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedProcess {
    /// Identity.
    pub key: ProcessKey,
    /// What is known of it.
    pub facts: Arc<Facts>,
    /// Use over the whole life, as intervals have told it.
    pub totals: ThreadTotals,
    /// Once it has ended, use over the whole life, also what nobody told of in its interval; before, `totals`.
    pub life: ThreadTotals,
    /// `life` by where it was used.
    pub life_split: CpuSplit,
    /// Use in the interval.
    pub delta: ThreadTotals,
    /// CPU time over the whole life by where it was used.
    pub split: CpuSplit,
    /// The same in the interval.
    pub split_delta: CpuSplit,
    /// Of the interval's CPU time, what threads used that ended in it, nanoseconds.
    pub ended_threads_cpu_time_ns: u64,
    /// Its memory at the end of the interval; `None`: no address space.
    pub memory: Option<Memory>,
    /// Descriptors and state at the end of the interval; `None`: its first thread was not found.
    pub standing: Option<Standing>,
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

impl Process {
    /// Pages that were resident at once in this interval, and the mark that the kernel keeps for the life.
    pub(super) fn note_peak(&mut self, pages: u64, hiwater_pages: u64) {
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
    pub(super) fn learn(&mut self, task: &TaskRecord) {
        let from_proc = task.now.flags & TASK_FROM_PROC != 0;
        // A zombie that was reaped in this instant has no number any more.
        let namespace_pid = Some(task.namespace_pid)
            .filter(|pid| *pid != 0)
            .or(self.facts.namespace_pid);
        self.learn_present(&task.now, from_proc.then_some(task.threads));
        let known = &*self.facts;
        if known.uid == task.uid
            && known.exec_generation == task.exec_generation
            && known.from_proc == from_proc
            && known.parent.is_some()
            && known.namespace_pid == namespace_pid
        {
            return;
        }
        let facts = Arc::make_mut(&mut self.facts);
        facts.uid = task.uid;
        facts.exec_generation = task.exec_generation;
        facts.from_proc = from_proc;
        facts.parent = facts.parent.or(Some(task.parent));
        facts.namespace_pid = namespace_pid;
    }

    /// What others can change of it, as the walk found it now. `threads`: when they are not followed one by one.
    /// True: the facts differ.
    fn learn_present(&mut self, now: &Present, threads: Option<u32>) -> bool {
        let kernel_thread = now.flags & TASK_KERNEL_THREAD != 0;
        let comm = now.comm.split(|byte| *byte == 0).next().unwrap_or_default();
        let from_proc = now.flags & TASK_FROM_PROC != 0;
        self.standing = Some(Standing {
            open_files: match now.open_files {
                OPEN_FILES_UNKNOWN => None,
                OPEN_FILES_SAME => self.standing.and_then(|standing| standing.open_files),
                open => Some(open),
            },
            open_files_limit: Some(now.open_files_limit).filter(|_limit| !from_proc),
            threads,
            io_read: now.flags & TASK_PROC_IO != 0,
            state: state_letter(now.state),
        });
        let known = &*self.facts;
        if known.kernel_thread == kernel_thread && known.comm == comm && known.cgroup_id == now.cgroup_id {
            return false;
        }
        let facts = Arc::make_mut(&mut self.facts);
        facts.kernel_thread = kernel_thread;
        facts.comm = comm.to_vec();
        if facts.cgroup_id != now.cgroup_id {
            facts.cgroup_id = now.cgroup_id;
            facts.cgroup_name.clear();
        }
        true
    }

    /// Memory as the walk found it. `peak_pages`: what was seen in this interval, 0 when nothing was.
    pub(super) fn note_memory(&mut self, now: &Present, peak_pages: u64) {
        if now.flags & TASK_HAS_MM != 0 {
            let memory = Memory {
                file_pages: now.file_pages,
                anon_pages: now.anon_pages,
                shmem_pages: now.shmem_pages,
                swap_pages: now.swap_pages,
                virtual_pages: now.virtual_pages,
            };
            self.note_peak(memory.rss_pages().max(peak_pages), now.hiwater_pages);
            self.memory = Some(memory);
        } else if peak_pages > 0 {
            self.note_peak(peak_pages, 0);
        }
    }

    /// The walk found its first thread, which has not run since the last walk. It has changed if others changed it.
    pub(super) fn meet_still(&mut self, now: &Present, peak_pages: u64) {
        let shown = |process: &Self| {
            (
                process.standing,
                process.memory,
                process.interval_peak_pages,
                process.lifetime_peak_pages,
            )
        };
        let before = shown(self);
        self.changed |= self.learn_present(now, None);
        self.note_memory(now, peak_pages);
        self.changed |= shown(self) != before;
    }

    pub(super) fn end_thread(&mut self, thread: &mut Thread) {
        if !thread.ended {
            thread.ended = true;
            self.ended_threads_cpu_time_ns += thread.totals.cpu_time_ns - thread.walked_cpu_time_ns;
            self.live_threads = self.live_threads.saturating_sub(1);
            self.any_ended = true;
        }
    }

    pub(super) fn delta(&self) -> ThreadTotals {
        rise(self.reported, self.totals).0
    }

    /// Whether everything about its end is known, or will never be.
    pub(super) fn is_over(
        &mut self,
        now_boottime_ns: u64,
        walk: u64,
        quiet: bool,
        lost_ends: &mut u64,
    ) -> bool {
        if self.facts.from_proc && self.live_threads == 0 {
            self.exit = Some(Exit {
                status: None,
                end_boottime_ns: now_boottime_ns,
                oom_killed: None,
            });
            return true;
        }
        let Some(exit) = self.exit else {
            let long_ago = now_boottime_ns.saturating_sub(self.touched_boottime_ns) >= LOST_AFTER_NS;
            let lives = self.live_threads > 0 && self.summed.is_none();
            if lives || !long_ago || walk - self.touched <= WALKS_UNTIL_LOST {
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
        let since_exit_ns = now_boottime_ns.saturating_sub(exit.end_boottime_ns);
        if self.summed.is_some() {
            return true;
        }
        let settled = match (quiet, self.threaded) {
            (true, _) => since_exit_ns >= LOST_AFTER_NS,
            (false, true) => since_exit_ns >= SETTLE_NS,
            (false, false) => true,
        };
        if self.live_threads == 0 && self.any_ended && settled {
            // Nobody heard the last of it: who ended between two walks may be missing.
            *lost_ends += u64::from(quiet && !self.leader_ended);
            return true;
        }
        self.exit_walks += 1;
        let long_ago = now_boottime_ns.saturating_sub(exit.end_boottime_ns) >= LOST_AFTER_NS;
        if !long_ago || self.exit_walks <= EXIT_WALKS_MAX {
            return false;
        }
        *lost_ends += 1;
        true
    }

    /// At its end: takes what nobody told of into the open interval if it fits into `room_ns` of it. Otherwise it was
    /// used before, or is in the sums of lost ends: then only the life as a whole has it.
    pub(super) fn make_good(&mut self, room_ns: u64) {
        let known = self.life();
        let room_ns = if self.told_elsewhere { 0 } else { room_ns };
        if rise(self.reported, known).0.cpu_time_ns <= room_ns {
            self.totals = known;
            self.settle();
        }
    }

    /// Use over the whole life, by all that is known of it.
    pub(super) fn life(&self) -> ThreadTotals {
        let at_exit = ThreadTotals {
            cpu_time_ns: self.used_at_exit_ns,
            ..ThreadTotals::default()
        };
        self.totals.combine(self.summed.unwrap_or(at_exit), u64::max)
    }

    pub(super) fn rss_pages(&self) -> Option<u64> {
        self.memory.map(Memory::rss_pages)
    }

    /// Brings what is derived from the totals up to them.
    pub(super) fn settle(&mut self) {
        self.split = self.split.grown_to(self.totals);
    }

    pub(super) fn sample(&self, key: ProcessKey, over: bool) -> FoldedProcess {
        let life = self.life();
        FoldedProcess {
            key,
            facts: self.facts.clone(),
            totals: self.totals,
            life: if over { life } else { self.totals },
            life_split: if over {
                self.split.grown_to(life)
            } else {
                self.split
            },
            delta: self.delta(),
            split: self.split,
            split_delta: self.split.since(self.reported_split),
            ended_threads_cpu_time_ns: self.ended_threads_cpu_time_ns,
            memory: if over { None } else { self.memory },
            standing: if over { None } else { self.standing },
            peak_rss_pages: self.interval_peak_pages.max(self.rss_pages()),
            lifetime_peak_rss_pages: self.lifetime_peak_pages,
            threads: if over { 0 } else { self.threads() },
            first_seen: self.first_seen,
            exit: if over { self.exit } else { None },
        }
    }

    /// Threads alive now.
    pub(super) fn threads(&self) -> u32 {
        let told = self.standing.and_then(|standing| standing.threads);
        told.unwrap_or(self.live_threads)
    }

    pub(super) fn end_interval(&mut self) {
        self.reported = self.totals;
        self.reported_split = self.split;
        self.ended_threads_cpu_time_ns = 0;
        self.first_seen = false;
        // The next interval begins with what is resident now.
        self.interval_peak_pages = self.rss_pages();
    }
}

/// The letter that /proc/PID/stat shows for a state.
fn state_letter(state: u32) -> char {
    /// `TASK_NOLOAD`: with `TASK_UNINTERRUPTIBLE` an idle kernel thread.
    const NOLOAD: u32 = 0x400;
    match state {
        0 => 'R',
        _ if state & 0x20 != 0 => 'Z',
        _ if state & 0x10 != 0 => 'X',
        _ if state & 0x01 != 0 => 'S',
        _ if state & 0x02 != 0 && state & NOLOAD != 0 => 'I',
        _ if state & 0x02 != 0 => 'D',
        _ if state & 0x04 != 0 => 'T',
        _ if state & 0x08 != 0 => 't',
        _ if state & 0x40 != 0 => 'P',
        _ => 'S',
    }
}

/// What each counter rose by, and how many fell.
pub(super) fn rise(before: ThreadTotals, now: ThreadTotals) -> (ThreadTotals, u64) {
    let mut torn = 0;
    let delta = before.combine(now, |before, now| {
        now.checked_sub(before).unwrap_or_else(|| {
            torn += 1;
            0
        })
    });
    (delta, torn)
}

pub(super) fn add(a: ThreadTotals, b: ThreadTotals) -> ThreadTotals {
    a.combine(b, u64::saturating_add)
}

/// A string of the kernel without its ending zero.
pub(super) fn until_zero(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|byte| *byte != 0).collect()
}
