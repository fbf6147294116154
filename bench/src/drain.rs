//! `drain`: what one drain costs with 1,000, 10,000 and 50,000 tasks, in each of its steps, and how that grows.

use std::{fs, hint::black_box};

use anyhow::{Context as _, Result, bail};
use procscope_agent::{
    clock,
    config::{self, File, MeasureArgs},
    drain::Drain,
    fold::{Fold, Found, Place},
    observer::Observer,
    probes::Probes,
    queue::{BYTES_MAX, LEN_MAX, Queue},
};
use procscope_agent_common::{ProcessKey, TaskRecord, WALK_TASK};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    programs::Kernel,
    report::{Verdict, float, median},
    tasks::Tasks,
};

/// Tasks asked for.
const SIZES: [usize; 3] = [1_000, 10_000, 50_000];
/// Threads of each process that sleeps.
const THREADS: usize = 10;
/// Numbers of tasks that are left to the rest of the machine.
const SPARE: usize = 2_500;
/// Times that each step is measured, after two times that are not: the first one learns names.
const TIMES: usize = 15;
/// More than the caches of a CPU hold.
const CACHE_BYTES: usize = 96 << 20;
/// What one entry may cost with most entries, as a multiple of what it costs with fewest.
const GROWTH_MOST: f64 = 1.5;

/// One step of a drain, in the words of the table.
const STEPS: [&str; 6] = [
    "walk of the iterator",
    "scan of slots",
    "fold",
    "whole snapshot",
    "frozen for sending",
    "fold, a process each",
];

/// Nanoseconds of each step, and entries of it.
type Column = [(f64, usize); STEPS.len()];

/// Measures and prints.
///
/// # Errors
/// Without privileges, or when the kernel refuses.
pub(crate) fn run() -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let kernel = Kernel::open()?;
    let _restored = Numbers::enough_for(SIZES[SIZES.len() - 1] + SPARE)?;
    let most = tasks_max()?;
    let mut columns = Vec::new();
    for size in SIZES {
        let real = size.min(most);
        if real < size {
            println!(
                "{size} tasks asked for, {real} real ones: this machine has no room for more (threads-max)."
            );
        }
        columns.push(measure(&kernel, real, size).with_context(|| format!("measure {size} tasks"))?);
    }
    println!(
        "One drain, CPU time; median of {TIMES}. Real tasks sleep in processes of {THREADS} threads; in the last line"
    );
    println!(
        "each entry is a process of its own, made up for the fold. Before each, caches are filled with other data.\n"
    );
    let heads = SIZES.map(|size| format!("{:>27}", format!("{size} tasks, each")));
    println!("{:<22}{}", "step", heads.concat());
    for (index, step) in STEPS.iter().enumerate() {
        let cells = columns.iter().map(|column| {
            let (ns, entries) = column[index];
            format!("{:>13.0} us {:>7.1} ns", ns / 1e3, ns / float(entries))
        });
        println!("{step:<22}{}", cells.collect::<Vec<_>>().concat());
    }
    println!();
    for (index, step) in STEPS.iter().enumerate() {
        let each = |column: &Column| column[index].0 / float(column[index].1);
        let (Some(first), Some(last)) = (columns.first(), columns.last()) else {
            bail!("nothing was measured")
        };
        let what = format!(
            "{step}, one of {} against one of {}",
            last[index].1, first[index].1
        );
        println!(
            "{}",
            verdict.at_most(&what, each(last) / each(first), GROWTH_MOST, "x")
        );
    }
    Ok(verdict)
}

const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// Where `pid_max` was raised for the benchmark, sets it back to what it was.
struct Numbers(Option<usize>);

impl Numbers {
    fn enough_for(tasks: usize) -> Result<Self> {
        let before = number(PID_MAX)?;
        if before >= tasks {
            return Ok(Self(None));
        }
        fs::write(PID_MAX, tasks.to_string()).context("raise pid_max for the benchmark")?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            drop(fs::write(PID_MAX, before.to_string()));
        }
    }
}

fn number(file: &str) -> Result<usize> {
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    text.trim().parse().with_context(|| format!("read {file}"))
}

/// Tasks that this machine can give us.
fn tasks_max() -> Result<usize> {
    let threads = number("/proc/sys/kernel/threads-max")?;
    Ok(number(PID_MAX)?.min(threads).saturating_sub(SPARE))
}

fn measure(kernel: &Kernel, real: usize, made_up: usize) -> Result<Column> {
    let tasks = Tasks::start(real / THREADS, THREADS, 0)?;
    let mut drain = Drain::open(Probes::attach(kernel.cpus)?, kernel.cpus)?;
    // The first walk tells all, the next ones little of what sleeps.
    let mut whole = Vec::new();
    drain.walk(|found, peak| whole.push((*found, peak)))?;
    let mut records = Vec::new();
    let walk = timed(|| {
        records.clear();
        drain.walk(|found, peak| records.push((*found, peak)))?;
        Ok(())
    })?;
    let slots = timed(|| {
        for (found, _peak) in &records {
            let (tid, start_boottime_ns, _process) = found.whose();
            black_box(drain.last_word(tid, start_boottime_ns));
        }
        Ok(())
    })?;
    let folded = fold_time(&whole, &records, &drain)?;
    let settings = config::settings(&MeasureArgs::default(), &File::default())
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let mut observer = Observer::start(settings)?;
    let mut queue = Queue::new(LEN_MAX, BYTES_MAX, [1; 16], 1, false);
    let mut processes = 0;
    let snapshot = timed(|| {
        processes = observer.freeze()?.head.host_info.map_or(0, |info| info.processes);
        Ok(())
    })?;
    let last = observer.freeze()?;
    let frozen = timed(|| {
        queue.push(&last.head, &last);
        Ok(())
    })?;
    drop(last);
    drop(observer);
    drop(tasks);
    let processes = usize::try_from(processes)?;
    let task = |(found, _peak): &(Found, u64)| match found {
        Found::Task(task) => Some(*task),
        _ => None,
    };
    let first = whole.iter().find_map(task).context("the walk found no task")?;
    let made_up: Vec<(Found, u64)> = (1..)
        .take(made_up)
        .map(|number| (Found::Task(process(&first, number)), 0))
        .collect();
    let made_up_time = fold_time(&made_up, &made_up, &drain)?;
    Ok([
        (walk, records.len()),
        (slots, records.len()),
        (folded, records.len()),
        (snapshot, records.len()),
        (frozen, processes),
        (made_up_time, made_up.len()),
    ])
}

/// A process of one thread, like another one but for its number.
fn process(like: &TaskRecord, number: u32) -> TaskRecord {
    TaskRecord {
        kind: WALK_TASK,
        process: ProcessKey::new(number, 1_000_000 + u64::from(number)),
        start_boottime_ns: 1_000_000 + u64::from(number),
        tid: number,
        threads: 1,
        ..*like
    }
}

/// Nanoseconds that folding these records takes, once all are known from `first`.
fn fold_time(first: &[(Found, u64)], records: &[(Found, u64)], drain: &Drain) -> Result<f64> {
    let mut fold = Fold::new(clock::boottime_ns());
    let mut one = |records: &[(Found, u64)]| {
        fold.begin_walk();
        for (found, peak) in records {
            fold.found(found, *peak);
        }
        black_box(fold.finish(
            clock::boottime_ns(),
            |tid, start| drain.last_word(tid, start),
            |row| {
                black_box(row);
                Place::default()
            },
        ));
    };
    one(first);
    timed(|| {
        one(records);
        Ok(())
    })
}

/// The median of nanoseconds of CPU time that something takes, once it has learnt what is there, and with nothing of it in the
/// caches: so a drain finds them after a second of other work, and so few entries cost as much each as many.
fn timed(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    let mut others = vec![0_u8; CACHE_BYTES];
    for time in 0..TIMES + 2 {
        for line in others.chunks_mut(64) {
            line[0] = line[0].wrapping_add(1);
        }
        black_box(&mut others);
        let start_ns = own_cpu_ns();
        work()?;
        if time >= 2 {
            times.push(own_cpu_ns() - start_ns);
        }
    }
    Ok(median(&times))
}

/// CPU time of this thread: what others do meanwhile on its CPU is not in it.
fn own_cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    float(u64::try_from(time.tv_sec).unwrap_or(0)) * 1e9 + float(u64::try_from(time.tv_nsec).unwrap_or(0))
}
