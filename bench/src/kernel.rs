//! `kernel`: what one run of each program of ours costs, beside an empty program and the usual one, by the kernel's
//! own count; and what a switch costs by the wall clock with more and more copies attached.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};

use crate::{
    loads::{self, PingPong},
    programs::{Attached, Counts, Kernel, Kind},
    report::{Verdict, each_ns, float, median, slope},
};

/// Times that each kind has its turn: what else the machine does hits all kinds alike.
const ROUNDS: usize = 9;
/// Rounds of ping-pong in a turn: twice as many switches.
const PLAYED: u64 = 60_000;
/// Times that memory is mapped, touched and given back in a turn: 8,192 page faults each.
const TOUCHED: u32 = 8;
/// Processes of a turn.
const PROCESSES: u32 = 300;
/// Sleeps of a turn.
const SLEEPS: u32 = 2_000;

/// Copies attached at a time for the wall clock.
const COPIES: [usize; 4] = [0, 4, 8, 16];
/// Times that all numbers of copies have their turn.
const SLOPE_ROUNDS: usize = 7;
/// Rounds of ping-pong between two looks at the clock: too short for the machine to disturb each of them.
const SLOPE_PLAYED: u64 = 250;
/// Looks at the clock for one number of copies, of which the tenth part from below counts: a disturbance only adds.
const SLOPE_LOOKS: usize = 200;

/// Programs on paths so hot that what they cost has a bound, as a multiple of an empty program.
const HOT: [&str; 2] = ["sched_switch", "rss_stat"];
const HOT_MOST: f64 = 1.5;

/// What makes the events of a tracepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    Pipe,
    Faults,
    Storm,
    Sleeps,
}

impl Load {
    const ALL: [Self; 4] = [Self::Pipe, Self::Faults, Self::Storm, Self::Sleeps];

    /// The load over which a tracepoint is measured.
    fn of(tracepoint: &str) -> Self {
        match tracepoint {
            "sched_switch" => Self::Pipe,
            "rss_stat" => Self::Faults,
            "cpu_idle" => Self::Sleeps,
            _ => Self::Storm,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Faults => "page faults",
            Self::Storm => "fork, exec, exit",
            Self::Sleeps => "sleeps",
        }
    }

    fn run(self, pipe: &mut PingPong) -> Result<()> {
        match self {
            Self::Pipe => pipe.play(PLAYED).map(drop),
            Self::Faults => loads::fault_pages(TOUCHED),
            Self::Storm => loads::storm(PROCESSES),
            Self::Sleeps => {
                loads::sleep_often(SLEEPS);
                Ok(())
            }
        }
    }
}

/// Figures of one tracepoint, by kind: nanoseconds a run in each round, and all runs.
#[derive(Default)]
struct Figures {
    ns: [Vec<f64>; Kind::ALL.len()],
    runs: [u64; Kind::ALL.len()],
}

/// Measures and prints.
///
/// # Errors
/// Without privileges, or when the kernel refuses.
pub(crate) fn run() -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let kernel = Kernel::open()?;
    let cpu = loads::pin()?;
    let mut pipe = PingPong::start()?;
    println!(
        "Kernel programs on CPU {cpu}, ns a run by bpf stats; median of {ROUNDS} rounds, kinds in turn."
    );
    println!("The clock reads of bpf stats are in every figure.\n");
    by_bpf_stats(&kernel, &mut pipe, &mut verdict)?;
    println!("\nA switch by the wall clock, without bpf stats, ns with so many copies attached at once;");
    println!("median of {SLOPE_ROUNDS} rounds, kinds in turn. A copy adds what stands on the right.\n");
    by_wall_clock(&kernel, &mut pipe)?;
    Ok(verdict)
}

fn by_bpf_stats(kernel: &Kernel, pipe: &mut PingPong, verdict: &mut Verdict) -> Result<()> {
    let stats = enable_stats(Stats::RunTime).context("switch bpf stats on")?;
    let mut figures: BTreeMap<(Load, String), Figures> = BTreeMap::new();
    for _round in 0..ROUNDS {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            let attached = kernel.attach(kind)?;
            pipe.play(PLAYED / 20)?;
            for load in Load::ALL {
                for (tracepoint, (ns, runs)) in counted(&attached, || load.run(pipe))? {
                    if Load::of(&tracepoint) == load {
                        let figures = figures.entry((load, tracepoint)).or_default();
                        figures.ns[index].push(float(ns) / float(runs));
                        figures.runs[index] += runs;
                    }
                }
            }
        }
    }
    drop(stats);
    figures.retain(|_tracepoint, figures| figures.runs.iter().all(|runs| *runs > 0));
    println!(
        "{:<20} {:<17} {:>9} {:>7} {:>7} {:>7} {:>11} {:>12}",
        "program", "load", "runs", "empty", "ours", "usual", "ours/empty", "usual/empty"
    );
    let mut bounds = Vec::new();
    for ((load, tracepoint), figures) in &figures {
        let [empty, ours, usual] = figures.ns.each_ref().map(|ns| median(ns));
        println!(
            "{tracepoint:<20} {:<17} {:>9} {empty:>7.1} {ours:>7.1} {usual:>7.1} {:>11.2} {:>12.2}",
            load.word(),
            figures.runs[1],
            ours / empty,
            usual / empty,
        );
        if HOT.contains(&tracepoint.as_str()) {
            bounds.push(verdict.at_most(tracepoint, ours / empty, HOT_MOST, "x empty"));
        }
    }
    println!();
    for line in bounds {
        println!("{line}");
    }
    for hot in HOT {
        if !figures.keys().any(|(_load, tracepoint)| tracepoint == hot) {
            verdict
                .exceeded
                .push(format!("{hot}: no such program is attached"));
        }
    }
    Ok(())
}

/// What the kernel counted while something was done.
fn counted(attached: &Attached, work: impl FnOnce() -> Result<()>) -> Result<Counts> {
    let before = attached.counts()?;
    work()?;
    let mut counts = attached.counts()?;
    for (tracepoint, (ns, runs)) in before {
        if let Some(after) = counts.get_mut(&tracepoint) {
            *after = (after.0 - ns, after.1 - runs);
        }
    }
    counts.retain(|_tracepoint, (_ns, runs)| *runs > 0);
    Ok(counts)
}

fn by_wall_clock(kernel: &Kernel, pipe: &mut PingPong) -> Result<()> {
    let mut figures: [[Vec<f64>; COPIES.len()]; Kind::ALL.len()] = Default::default();
    for _round in 0..SLOPE_ROUNDS {
        for (kind, figures) in Kind::ALL.into_iter().zip(&mut figures) {
            let mut attached = Vec::new();
            for (copies, figures) in COPIES.into_iter().zip(figures) {
                while attached.len() < copies {
                    attached.push(kernel.attach(kind)?);
                }
                pipe.play(10 * SLOPE_PLAYED)?;
                let mut looks = (0..SLOPE_LOOKS)
                    .map(|_look| pipe.play(SLOPE_PLAYED))
                    .collect::<Result<Vec<Duration>>>()?;
                looks.sort_unstable();
                figures.push(each_ns(looks[SLOPE_LOOKS / 10], 2 * SLOPE_PLAYED));
            }
        }
    }
    let copies = COPIES.map(|copies| format!("{copies:>8}")).concat();
    println!("{:<8}{copies} {:>12}", "copies", "ns a copy");
    for (kind, figures) in Kind::ALL.into_iter().zip(&figures) {
        let medians = figures.each_ref().map(|figures| median(figures));
        let points: Vec<(f64, f64)> = COPIES.into_iter().map(float).zip(medians).collect();
        let cells = medians.map(|ns| format!("{ns:>8.0}")).concat();
        println!("{:<8}{cells} {:>12.1}", kind.word(), slope(&points));
    }
    Ok(())
}
