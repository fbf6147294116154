//! Lives as the kernel tells them, in every order that it may tell them in.

mod memory;
mod model;
mod quiet;
mod sleepers;

use std::cell::RefCell;

use procscope_agent_common::{
    EVENT_EXEC, EVENT_EXIT, EVENT_FORK, EVENT_PROCESS_FREED, EVENT_THREAD_END, ExecEvent, ExitEvent,
    ForkEvent, OPEN_FILES_SAME, Present, ProcessFreedEvent, ProcessKey, StillRecord, StillThreadRecord,
    TASK_HAS_MM, TASK_SUMMED, TASK_ZOMBIE, TaskRecord, ThreadEndEvent, ThreadTotals, WALK_STILL,
    WALK_STILL_THREAD, WALK_TASK,
};

use super::*;

const ATTACHED: u64 = 1_000;
/// Long after every exit of a test, so that all of them have settled.
const LATER: u64 = u64::MAX / 2;

/// The end of an interval of one second.
fn later(fold: &Fold) -> u64 {
    LATER + fold.walk * 1_000_000_000
}

fn cpu(cpu_time_ns: u64) -> ThreadTotals {
    ThreadTotals {
        cpu_time_ns,
        ..ThreadTotals::default()
    }
}

fn key(tgid: u32) -> ProcessKey {
    ProcessKey::new(tgid, ATTACHED + u64::from(tgid))
}

fn task(process: ProcessKey, tid: u32, start: u64, totals: ThreadTotals) -> TaskRecord {
    TaskRecord {
        kind: WALK_TASK,
        tid,
        process,
        start_boottime_ns: start,
        now: Present {
            file_pages: 0,
            anon_pages: 0,
            shmem_pages: 0,
            swap_pages: 0,
            hiwater_pages: 0,
            virtual_pages: 0,
            cgroup_id: 1,
            open_files_limit: 1024,
            flags: 0,
            state: 0,
            open_files: 3,
            reserved: 0,
            comm: *b"name\0\0\0\0\0\0\0\0\0\0\0\0",
        },
        totals,
        ended: ThreadTotals::default(),
        parent: ProcessKey::new(1, 1),
        exec_generation: 1,
        uid: 0,
        threads: 1,
        namespace_pid: 0,
    }
}

/// The same task, when it has not run since the last walk.
fn still(task: &TaskRecord) -> Found {
    let TaskRecord {
        tid,
        process,
        start_boottime_ns,
        now,
        ..
    } = *task;
    if tid == process.tgid {
        Found::Still(StillRecord {
            kind: WALK_STILL,
            tid,
            process,
            start_boottime_ns,
            now: Present {
                open_files: OPEN_FILES_SAME,
                ..now
            },
        })
    } else {
        Found::StillThread(StillThreadRecord {
            kind: WALK_STILL_THREAD,
            tid,
            process,
            start_boottime_ns,
        })
    }
}

fn leader(process: ProcessKey, cpu_time_ns: u64) -> TaskRecord {
    task(process, process.tgid, process.start_boottime_ns, cpu(cpu_time_ns))
}

fn with_memory(mut record: TaskRecord, pages: u64, hiwater_pages: u64) -> TaskRecord {
    record.now.flags |= TASK_HAS_MM;
    record.now.anon_pages = pages;
    record.now.hiwater_pages = hiwater_pages;
    record
}

fn fork(process: ProcessKey) -> ForkEvent {
    ForkEvent {
        kind: EVENT_FORK,
        uid: 0,
        process,
        parent: ProcessKey::new(1, 1),
        exec_generation: 1,
        namespace_pid: 7,
        cgroup_id: 1,
        comm: [0; 16],
    }
}

fn exec(process: ProcessKey, old_tid: u32) -> ExecEvent {
    ExecEvent {
        kind: EVENT_EXEC,
        old_tid,
        process,
        parent: ProcessKey::new(1, 1),
        cgroup_id: 1,
        exec_generation: 2,
        uid: 0,
        arguments_len: 0,
        peak_rss_pages: 0,
        comm: *b"after\0\0\0\0\0\0\0\0\0\0\0",
        cgroup_name: [0; 104],
        filename: [0; 256],
        arguments: [0; 256],
    }
}

fn exit(process: ProcessKey, peak_rss_pages: u64) -> ExitEvent {
    ExitEvent {
        kind: EVENT_EXIT,
        exit_status: 3 << 8,
        process,
        parent: ProcessKey::new(1, 1),
        end_boottime_ns: ATTACHED + 500,
        cgroup_id: 1,
        rss_pages: peak_rss_pages,
        hiwater_pages: peak_rss_pages,
        cpu_time_ns: 0,
        exec_generation: 1,
        uid: 0,
        has_mm: 1,
        oom_killed: 0,
        tid: process.tgid,
        threads: 1,
        comm: *b"name\0\0\0\0\0\0\0\0\0\0\0\0",
        cgroup_name: [0; 104],
    }
}

fn end(process: ProcessKey, tid: u32, start: u64, cpu_time_ns: u64) -> ThreadEndEvent {
    ThreadEndEvent {
        kind: EVENT_THREAD_END,
        tid,
        process,
        start_boottime_ns: start,
        totals: cpu(cpu_time_ns),
    }
}

fn leader_end(process: ProcessKey, cpu_time_ns: u64) -> ThreadEndEvent {
    end(process, process.tgid, process.start_boottime_ns, cpu_time_ns)
}

fn freed(process: ProcessKey, cpu_time_ns: u64) -> ProcessFreedEvent {
    ProcessFreedEvent {
        kind: EVENT_PROCESS_FREED,
        reserved: 0,
        process,
        totals: cpu(cpu_time_ns),
    }
}

/// A fold that has seen what was there before: `seed`.
fn seeded(seed: &[TaskRecord]) -> Fold {
    let mut fold = Fold::new(ATTACHED);
    interval(&mut fold, seed);
    fold
}

/// What one interval came to, with the rows of all processes.
#[derive(Debug)]
struct Interval {
    processes: Vec<FoldedProcess>,
    /// Rows that were not made anew.
    same: usize,
    torn_reads: u64,
    lost_ends: u64,
}

thread_local! {
    /// Every row that was ever told.
    static ROWS: RefCell<Vec<FoldedProcess>> = const { RefCell::new(Vec::new()) };
}

fn finish(
    fold: &mut Fold,
    now_boottime_ns: u64,
    last_word: impl Fn(u32, u64) -> Option<LastWord>,
) -> Interval {
    ROWS.with_borrow_mut(|rows| {
        let (mut processes, mut same) = (Vec::new(), 0);
        let folded = fold.finish(now_boottime_ns, last_word, |row| match row {
            Row::Anew(process) => {
                rows.push(process.clone());
                processes.push(process.clone());
                Place {
                    start: rows.len() - 1,
                    end: rows.len(),
                }
            }
            Row::Same(place, threads) => {
                let process = rows[place.start].clone();
                assert_eq!(process.threads, threads);
                processes.push(process);
                same += 1;
                place
            }
        });
        Interval {
            processes,
            same,
            torn_reads: folded.torn_reads,
            lost_ends: folded.lost_ends,
        }
    })
}

/// Walks and ends an interval.
fn interval(fold: &mut Fold, tasks: &[TaskRecord]) -> Interval {
    let found: Vec<Found> = tasks.iter().copied().map(Found::Task).collect();
    interval_of(fold, &found)
}

fn interval_of(fold: &mut Fold, found: &[Found]) -> Interval {
    fold.begin_walk();
    for found in found {
        fold.found(found, 0);
    }
    let now = later(fold);
    finish(fold, now, |_tid, _start| None)
}

/// CPU time of one process in an interval, and whether it ended.
fn of(folded: &Interval, process: ProcessKey) -> Option<(u64, u64, bool)> {
    folded
        .processes
        .iter()
        .find(|folded| folded.key == process)
        .map(|folded| {
            (
                folded.totals.cpu_time_ns,
                folded.delta.cpu_time_ns,
                folded.exit.is_some(),
            )
        })
}

#[test]
fn the_past_of_what_was_there_before_us_is_in_no_interval() {
    let old = ProcessKey::new(10, 5);
    let mut record = leader(old, 700);
    record.ended = cpu(300);
    let mut fold = seeded(&[record]);
    let folded = interval(&mut fold, &[leader(old, 750)]);
    assert_eq!(of(&folded, old), Some((1050, 50, false)));
}

#[test]
fn a_new_process_counts_from_zero() {
    let mut fold = seeded(&[]);
    fold.fork(&fork(key(10)));
    let folded = interval(&mut fold, &[leader(key(10), 250)]);
    assert_eq!(of(&folded, key(10)), Some((250, 250, false)));
    assert!(folded.processes[0].first_seen);
    assert!(!interval(&mut fold, &[leader(key(10), 250)]).processes[0].first_seen);
}

#[test]
fn a_life_between_two_walks_is_told_whole_and_once() {
    let mut fold = seeded(&[]);
    fold.fork(&fork(key(10)));
    fold.exec(&exec(key(10), 10));
    fold.exit(&exit(key(10), 77));
    fold.thread_end(&leader_end(key(10), 400), 0);
    let folded = interval(&mut fold, &[]);
    assert_eq!(of(&folded, key(10)), Some((400, 400, true)));
    let process = &folded.processes[0];
    assert_eq!(
        (process.facts.comm.as_slice(), process.lifetime_peak_rss_pages),
        (&b"name"[..], Some(77))
    );
    assert_eq!(process.exit.unwrap().status, Some(3 << 8));
    assert_eq!(interval(&mut fold, &[]).processes, []);
    assert!(fold.is_empty());
}

#[test]
fn an_exit_waits_for_the_final_figure() {
    let mut fold = seeded(&[]);
    let walked = interval(&mut fold, &[leader(key(10), 100)]);
    assert_eq!(of(&walked, key(10)), Some((100, 100, false)));
    fold.exit(&exit(key(10), 1));
    assert_eq!(
        of(&interval(&mut fold, &[leader(key(10), 120)]), key(10)),
        Some((120, 20, false))
    );
    fold.thread_end(&leader_end(key(10), 130), 0);
    assert_eq!(of(&interval(&mut fold, &[]), key(10)), Some((130, 10, true)));
}

#[test]
fn a_zombie_is_told_once_and_makes_no_second_process() {
    let mut fold = seeded(&[]);
    fold.exit(&exit(key(10), 1));
    fold.thread_end(&leader_end(key(10), 100), 0);
    let mut zombie = leader(key(10), 100);
    zombie.now.flags |= TASK_ZOMBIE;
    assert_eq!(
        of(&interval(&mut fold, &[zombie]), key(10)),
        Some((100, 100, true))
    );
    for _interval in 0..5 {
        assert_eq!(interval(&mut fold, &[zombie]).processes, []);
    }
    interval(&mut fold, &[]);
    assert!(fold.is_empty());
}

#[test]
fn a_zombie_from_before_us_is_no_exit_of_ours() {
    let mut zombie = leader(ProcessKey::new(10, 5), 100);
    zombie.now.flags |= TASK_ZOMBIE;
    let mut fold = seeded(&[zombie]);
    assert_eq!(
        of(&interval(&mut fold, &[zombie]), zombie.process),
        Some((100, 0, false))
    );
    for _interval in 0..5 {
        assert!(
            interval(&mut fold, &[])
                .processes
                .iter()
                .all(|process| process.exit.is_none())
        );
    }
    assert!(fold.is_empty());
}

#[test]
fn threads_that_end_stay_in_the_total() {
    let mut fold = seeded(&[]);
    let worker = |cpu_time_ns| task(key(10), 11, 2_000, cpu(cpu_time_ns));
    interval(&mut fold, &[leader(key(10), 10), worker(500)]);
    fold.thread_end(&end(key(10), 11, 2_000, 600), 0);
    let folded = interval(&mut fold, &[leader(key(10), 20)]);
    assert_eq!(of(&folded, key(10)), Some((620, 110, false)));
    assert_eq!(folded.processes[0].threads, 1);
    assert_eq!(
        of(&interval(&mut fold, &[leader(key(10), 20)]), key(10)),
        Some((620, 0, false))
    );
}

#[test]
fn a_fallen_counter_is_a_torn_read() {
    let mut fold = seeded(&[]);
    interval(&mut fold, &[leader(key(10), 500)]);
    let folded = interval(&mut fold, &[leader(key(10), 400)]);
    assert_eq!(
        (of(&folded, key(10)), folded.torn_reads),
        (Some((500, 0, false)), 1)
    );
    let folded = interval(&mut fold, &[leader(key(10), 510)]);
    assert_eq!(
        (of(&folded, key(10)), folded.torn_reads),
        (Some((510, 10, false)), 0)
    );
}

#[test]
fn an_exec_from_another_thread_goes_on_under_the_first_ones_number() {
    let mut fold = seeded(&[]);
    let worker = task(key(10), 11, 2_000, cpu(50));
    interval(&mut fold, &[leader(key(10), 1_000), worker]);
    // The worker calls execve: the old leader ends under the worker's tid, the worker goes on as tid 10.
    fold.exec(&exec(key(10), 11));
    fold.thread_end(&end(key(10), 11, key(10).start_boottime_ns, 1_001), 0);
    let folded = interval(&mut fold, &[leader(key(10), 60)]);
    assert_eq!(
        (of(&folded, key(10)), folded.torn_reads),
        (Some((1_061, 11, false)), 0)
    );
    assert_eq!(folded.processes[0].facts.comm, b"name", "as the walk found it");
}

#[test]
fn an_old_leader_that_ends_under_its_new_number_before_the_exec_is_told_counts_once() {
    let mut fold = seeded(&[]);
    let worker = |cpu_time_ns| task(key(10), 11, ATTACHED + 20, cpu(cpu_time_ns));
    interval(&mut fold, &[leader(key(10), 450), worker(20)]);
    fold.thread_end(&end(key(10), 11, key(10).start_boottime_ns, 455), 0);
    fold.exec(&exec(key(10), 11));
    let folded = interval(&mut fold, &[leader(key(10), 30)]);
    assert_eq!(of(&folded, key(10)), Some((485, 15, false)));
    assert_eq!(folded.torn_reads, 0);
    fold.exit(&exit(key(10), 0));
    fold.thread_end(&leader_end(key(10), 100), 0);
    assert_eq!(of(&interval(&mut fold, &[]), key(10)), Some((555, 70, true)));
}

#[test]
fn an_old_leader_that_a_walk_finds_under_its_new_number_counts_once() {
    let mut fold = seeded(&[]);
    let worker = task(key(10), 11, ATTACHED + 20, cpu(20));
    interval(&mut fold, &[leader(key(10), 450), worker]);
    let old_leader = task(key(10), 11, key(10).start_boottime_ns, cpu(455));
    let folded = interval(&mut fold, &[leader(key(10), 30), old_leader]);
    assert_eq!(of(&folded, key(10)), Some((475, 5, false)));
    fold.thread_end(&end(key(10), 11, key(10).start_boottime_ns, 456), 0);
    fold.exec(&exec(key(10), 11));
    let folded = interval(&mut fold, &[leader(key(10), 40)]);
    assert_eq!(of(&folded, key(10)), Some((496, 21, false)));
}

#[test]
fn the_end_of_a_thread_that_nobody_told_is_healed_from_its_slot_and_counted() {
    let mut fold = seeded(&[]);
    let worker = task(key(10), 11, 2_000, cpu(50));
    interval(&mut fold, &[leader(key(10), 10), worker]);
    let mut lost = 0;
    let mut total = 0;
    for _interval in 0..5 {
        fold.begin_walk();
        fold.task(&leader(key(10), 10), 0);
        let now = later(&fold);
        let folded = finish(&mut fold, now, |tid, start| {
            (tid == 11 && start == 2_000).then_some(LastWord {
                cpu_time_ns: 80,
                runqueue_ns: 0,
                ended: false,
            })
        });
        lost += folded.lost_ends;
        total = of(&folded, key(10)).unwrap().0;
    }
    assert_eq!((lost, total), (1, 90));
}

#[test]
fn a_process_whose_end_nobody_told_is_ended_with_an_unknown_code() {
    let mut fold = seeded(&[]);
    interval(&mut fold, &[leader(key(10), 10)]);
    let exits: Vec<Exit> = (0..8)
        .flat_map(|_| interval(&mut fold, &[]).processes)
        .filter_map(|process| process.exit)
        .collect();
    assert_eq!(exits.len(), 1);
    assert_eq!((exits[0].status, exits[0].oom_killed), (None, None));
    assert!(fold.is_empty());
}

#[test]
fn a_fork_of_which_nothing_more_is_heard_is_forgotten() {
    let mut fold = seeded(&[]);
    fold.fork(&fork(key(10)));
    for _interval in 0..8 {
        interval(&mut fold, &[]);
    }
    assert!(fold.is_empty());
}
