//! A model of processes and their threads, told to the fold in every order that the kernel may tell it in.

use proptest::prelude::*;

use super::*;

/// One thread of the model: when it begins, and what it has used at each step of time from there on.
#[derive(Debug, Clone)]
struct ModelThread {
    begin: usize,
    uses: Vec<u16>,
    /// Steps by which the news of its end comes late.
    late: usize,
}

impl ModelThread {
    fn used_at(&self, step: usize) -> u64 {
        self.uses
            .iter()
            .take((step + 1).saturating_sub(self.begin))
            .map(|used| u64::from(*used))
            .sum()
    }

    fn end(&self) -> usize {
        self.begin + self.uses.len()
    }

    fn is_alive(&self, step: usize) -> bool {
        step >= self.begin && step < self.end()
    }
}

fn model_thread() -> impl Strategy<Value = ModelThread> {
    (
        0_usize..20,
        // It often sleeps.
        proptest::collection::vec(prop_oneof![Just(0), 0_u16..1_000], 1..12),
        0_usize..2,
    )
        .prop_map(|(begin, uses, late)| ModelThread { begin, uses, late })
}

/// The first thread is the leader; the others begin while it lives, and may live longer.
fn model_process() -> impl Strategy<Value = Vec<ModelThread>> {
    proptest::collection::vec(model_thread(), 1..4).prop_map(|mut threads| {
        let (first, len) = (threads[0].begin, threads[0].uses.len());
        for thread in &mut threads {
            thread.begin = first + thread.begin.saturating_sub(first) % len;
        }
        threads
    })
}

fn model_ids(process: usize, thread: usize) -> (ProcessKey, u32, u64) {
    let process = key(u32::try_from(process * 100 + 10).unwrap());
    let thread = u32::try_from(thread).unwrap();
    (
        process,
        process.tgid + thread,
        process.start_boottime_ns + u64::from(thread),
    )
}

/// Steps are so long that news that is one step late still comes before an exit has settled.
fn model_time(step: usize) -> u64 {
    ATTACHED + u64::try_from(step).unwrap() * 60_000_000
}

/// What the kernel tells at one step.
fn model_events(fold: &mut Fold, processes: &[Vec<ModelThread>], step: usize) {
    for (n, threads) in processes.iter().enumerate() {
        let last = threads.iter().map(ModelThread::end).max().unwrap();
        for (m, thread) in threads.iter().enumerate() {
            let (process, tid, start) = model_ids(n, m);
            if step == thread.end() + thread.late {
                fold.thread_end(&end(process, tid, start, thread.used_at(step)), 0);
            }
        }
        if step == last {
            let (process, tid, _start) =
                model_ids(n, threads.iter().position(|one| one.end() == last).unwrap());
            let threads = threads.iter().filter(|one| one.end() + one.late >= step).count();
            let threads = u32::try_from(threads).unwrap();
            fold.exit(&ExitEvent {
                end_boottime_ns: model_time(step),
                tid,
                threads,
                ..exit(process, 1)
            });
        }
    }
}

/// What a walk finds at one step: threads that live, and leaders as zombies until the last thread has gone. Others
/// change the memory of a process whether it runs or not.
fn model_tasks(processes: &[Vec<ModelThread>], step: usize) -> Vec<TaskRecord> {
    let mut tasks = Vec::new();
    for (n, threads) in processes.iter().enumerate() {
        let last = threads.iter().map(ModelThread::end).max().unwrap();
        for (m, thread) in threads.iter().enumerate() {
            let (process, tid, start) = model_ids(n, m);
            let mut record = task(process, tid, start, cpu(thread.used_at(step)));
            if m == 0 {
                record = with_memory(record, [100, 100, 100, 90, 120][step / 4 % 5], 0);
            }
            if m == 0 && step >= thread.end() && step < last {
                record.now.flags |= TASK_ZOMBIE;
            } else if !thread.is_alive(step) {
                continue;
            }
            tasks.push(record);
        }
    }
    tasks
}

/// The same, as the kernel tells it to who was told of `before`: little of what has not run since.
fn model_found(before: &[TaskRecord], now: &[TaskRecord]) -> Vec<Found> {
    let is_still = |task: &TaskRecord| {
        task.now.flags & TASK_ZOMBIE == 0
            && before.iter().any(|one| {
                (one.tid, one.start_boottime_ns, one.totals)
                    == (task.tid, task.start_boottime_ns, task.totals)
            })
    };
    now.iter()
        .map(|task| {
            if is_still(task) {
                still(task)
            } else {
                Found::Task(*task)
            }
        })
        .collect()
}

proptest! {
    /// Whatever order threads begin and end in, and wherever walks fall: no interval shows more than was used
    /// in it, the sum of the intervals is what was used, and each process ends once.
    #[test]
    fn what_intervals_show_is_what_was_used(
        processes in proptest::collection::vec(model_process(), 1..5),
        walk_at in proptest::collection::vec(any::<bool>(), 44),
    ) {
        let mut fold = seeded(&[]);
        let mut shown = vec![0_u64; processes.len()];
        let mut ends = vec![0_u32; processes.len()];
        for step in 0..60 {
            model_events(&mut fold, &processes, step);
            if !walk_at.get(step).copied().unwrap_or(true) {
                continue;
            }
            fold.begin_walk();
            for task in &model_tasks(&processes, step) {
                fold.task(task, 0);
            }
            let folded = finish(&mut fold, model_time(step), |_, _| None);
            prop_assert_eq!((folded.torn_reads, folded.lost_ends), (0, 0));
            for process in &folded.processes {
                let n = usize::try_from((process.key.tgid - 10) / 100).unwrap();
                shown[n] += process.delta.cpu_time_ns;
                ends[n] += u32::from(process.exit.is_some());
                let used: u64 = processes[n].iter().map(|thread| thread.used_at(step)).sum();
                prop_assert!(shown[n] <= used, "shown {} of {used}", shown[n]);
            }
        }
        for (n, threads) in processes.iter().enumerate() {
            let used: u64 = threads.iter().flat_map(|thread| &thread.uses).map(|used| u64::from(*used)).sum();
            prop_assert_eq!(shown[n], used);
            prop_assert_eq!(ends[n], 1);
        }
        prop_assert!(fold.is_empty());
    }

    /// A walk that tells little of what sleeps leads to the rows of one that tells all.
    #[test]
    fn rows_are_the_same_whether_sleepers_are_told_whole_or_not(
        processes in proptest::collection::vec(model_process(), 1..5),
        walk_at in proptest::collection::vec(any::<bool>(), 44),
    ) {
        let (mut whole, mut little) = (seeded(&[]), seeded(&[]));
        let mut before = Vec::new();
        for step in 0..60 {
            model_events(&mut whole, &processes, step);
            model_events(&mut little, &processes, step);
            if !walk_at.get(step).copied().unwrap_or(true) {
                continue;
            }
            let now = model_tasks(&processes, step);
            let found = model_found(&before, &now);
            before = now.clone();
            let all: Vec<Found> = now.into_iter().map(Found::Task).collect();
            let [mut expected, mut told] = [(&mut whole, all), (&mut little, found)].map(|(fold, found)| {
                fold.begin_walk();
                for one in &found {
                    fold.found(one, 0);
                }
                finish(fold, model_time(step), |_, _| None).processes
            });
            expected.sort_by_key(|process| process.key);
            told.sort_by_key(|process| process.key);
            prop_assert_eq!(told, expected);
            prop_assert!(!little.take_met_stranger());
        }
    }
}
