//! The books: what all processes used, held against control groups and against the CPUs' wall time.

use std::time::Duration;

use anyhow::{Result, ensure};
use procscope_tests_kernel::{
    Balance, Program, Watch, alone,
    group::Group,
    or_guest,
    report::{self, figure, milliseconds, off_by_at_most, percent},
};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

/// What may be left over, in parts per million of CPUs x wall.
const RESIDUAL_PPM: u64 = 1_000;
/// The same in a guest, where the host may take a CPU away between two readings that belong together.
const GUEST_RESIDUAL_PPM: u64 = 20_000;

/// How long each load runs.
fn long() -> Duration {
    report::seconds(10, 60)
}

/// Prints what is left over and holds it against the bound.
fn check_balance(load: &str, balance: &Balance) -> Result<()> {
    let sums = &balance.sums;
    let bound_ppm = or_guest(RESIDUAL_PPM, GUEST_RESIDUAL_PPM);
    let sign = if balance.unexplained_ns() < 0 { "-" } else { "+" };
    figure(
        &format!("left over, {load}"),
        "CPUs x `CLOCK_MONOTONIC_RAW`",
        &format!(
            "{sign}{} of {}{}{}",
            percent(balance.unexplained_ppm()),
            milliseconds(sums.wall_ns),
            if balance.hidden_ns > 0 {
                format!(" (and {} hidden by the kernel)", milliseconds(balance.hidden_ns))
            } else {
                String::new()
            },
            match sums.lost_events {
                0 => String::new(),
                lost => format!(" ({lost} events lost and counted)"),
            }
        ),
        &percent(bound_ppm),
    )?;
    ensure!(
        balance.unexplained_ppm() <= bound_ppm,
        "{} ns are left over: {balance:?}",
        balance.unexplained_ns()
    );
    Ok(())
}

/// Keeps the books while a program runs, which is in a control group of its own, and at least for `long()`.
fn balance_of(load: &str, arguments: &[&str]) -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.forgets = true;
    let books = watch.open_books()?;
    let start = std::time::Instant::now();
    let mut programs = arguments
        .iter()
        .map(|arguments| Program::start(LOAD, arguments))
        .collect::<Result<Vec<_>>>()?;
    while programs.iter_mut().any(Program::is_running) || start.elapsed() < long() {
        watch.next_interval()?;
    }
    let balance = watch.close_books(&books)?;
    check_balance(load, &balance)
}

#[test]
fn the_books_balance_when_nothing_runs() -> Result<()> {
    balance_of("nothing runs", &[])
}

#[test]
fn the_books_balance_under_full_load() -> Result<()> {
    let threads = std::thread::available_parallelism()?.get() * 2;
    balance_of(
        "two burners a CPU",
        &[&format!("load {} {threads}", long().as_millis())],
    )
}

#[test]
fn the_books_balance_in_a_fork_storm() -> Result<()> {
    let storm = format!("fork-storm {}", long().as_millis());
    balance_of("fork storm", &[&storm, &storm])
}

#[test]
fn the_books_balance_in_a_switch_storm() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.forgets = true;
    let books = watch.open_books()?;
    let mut program = Program::start(LOAD, &format!("switch-storm {}", long().as_millis()))?;
    while program.is_running() {
        watch.next_interval()?;
    }
    let rate = program.hear("switches_per_second")?;
    let balance = watch.close_books(&books)?;
    check_balance(&format!("switch storm, {rate} switches a second"), &balance)
}

#[test]
fn the_books_balance_under_mixed_load() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let books = watch.open_books()?;
    let mut burner = Program::start(LOAD, "burn 3000 1")?;
    let mut spawner = Program::start(LOAD, &format!("spawn {} /bin/true", or_guest(600, 200)))?;
    let mut threads = Program::start(LOAD, "threads 100 5")?;
    while burner.is_running() || spawner.is_running() || threads.is_running() {
        watch.next_interval()?;
    }
    // Some idle time, too.
    for _interval in 0..10 {
        watch.next_interval()?;
    }
    let balance = watch.close_books(&books)?;
    ensure!(balance.sums.process_ns > 3_000_000_000, "{balance:?}");
    check_balance("a bit of everything", &balance)
}

#[test]
fn the_sum_of_processes_is_what_their_control_group_says() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut group = Group::new()?;
    let runs = or_guest(300, 100);
    let program = group.start(
        LOAD,
        &format!(
            "shell {LOAD} burn 300 2 && {LOAD} spawn {runs} /bin/true && {LOAD} exec-chain 10 5 && exec {LOAD} threads 50 3"
        ),
    )?;
    let pid = program.pid();
    watch.exit_of(pid)?;
    watch.tick()?;
    let told = watch.family(pid).map(|exit| exit.cpu_time_ns).sum();
    off_by_at_most(
        &format!("sum of burners, {runs} short lives, an exec chain and 50 threads"),
        "control group",
        told,
        group.usage_ns()?,
        5_000,
    )
}
