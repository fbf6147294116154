//! What is still known of processes when events found no room: each figure once, nothing in an interval that it was
//! not used in.

use std::fs;

use anyhow::{Result, ensure};
use procscope_agent::observer::Hooks;
use procscope_tests_kernel::{Program, Watch, alone, wait_until, within};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

/// A watch whose buffer is full: nobody has drained since.
fn with_a_full_buffer(hooks: Hooks) -> Result<Watch> {
    let mut watch = Watch::with(|settings| settings.hooks = hooks)?;
    watch.tick()?;
    Program::start(LOAD, "spawn 9000 /bin/true")?.wait4()?;
    Ok(watch)
}

/// All that rows and sums of lost ends say was used, against the wall clock. `unheard_ns`: what of it was used by ends
/// that are counted as lost.
fn books_balance(watch: &Watch, unheard_ns: u64) -> Result<()> {
    ensure!(
        watch.losses("ring_full") > 0,
        "nothing was lost, so nothing was tested"
    );
    let audits = watch
        .snapshots
        .iter()
        .filter_map(|snapshot| snapshot.audit.as_ref());
    let (wall, residual) = audits.fold((0_u64, 0_i64), |(wall, residual), audit| {
        (wall + audit.wall_ns, residual + audit.residual_ns)
    });
    let (unheard, slack) = (i64::try_from(unheard_ns)?, i64::try_from(wall / 100)?);
    ensure!(
        (-slack..unheard + slack).contains(&residual),
        "residual {residual} of {wall}, {unheard} of it unheard"
    );
    Ok(())
}

fn check_threads(hooks: Hooks) -> Result<()> {
    let _alone = alone();
    let mut watch = with_a_full_buffer(hooks)?;
    let mut program = Program::start(LOAD, "thread-swarm 50 20000")?;
    let pid = program.pid();
    program.hear("ready")?;
    program.go_on()?;
    program.hear("ended")?;
    // Each tick holds each row against the length of its interval.
    for _interval in 0..4 {
        watch.next_interval()?;
    }
    program.go_on()?;
    let total = watch.exit_of(pid)?.cpu_time_ns;
    let shown: u64 = watch
        .samples(pid)
        .iter()
        .map(|sample| sample.cpu_time_ns_delta)
        .sum();
    within("CPU time of the whole life", total, program.wait4()?.1, 10)?;
    // In quiet mode the kernel may free them after the first drain, when there is room again.
    ensure!(
        hooks == Hooks::Quiet || shown < total / 2,
        "intervals show {shown} ns of {total} ns a second time"
    );
    // Ends that are told only when the kernel frees the task come late: when what is missing is not known, they are
    // counted, and stay out of an interval in which they did not work.
    let unheard = if hooks == Hooks::Quiet && watch.losses("lost_end") > 0 {
        total - shown
    } else {
        0
    };
    books_balance(&watch, unheard)
}

#[test]
fn threads_that_nobody_heard_of_are_in_the_life_of_their_process_and_in_no_interval_twice() -> Result<()> {
    check_threads(Hooks::Full)
}

#[test]
fn in_quiet_mode_too() -> Result<()> {
    check_threads(Hooks::Quiet)
}

#[test]
fn a_zombie_whose_end_was_lost_is_not_counted_a_second_time() -> Result<()> {
    let _alone = alone();
    let mut watch = with_a_full_buffer(Hooks::Full)?;
    let mut program = Program::start(LOAD, "zombie 300")?;
    let child = u32::try_from(program.hear("child")?)?;
    wait_until("it is a zombie", 30, || {
        fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    })?;
    for _interval in 0..3 {
        watch.next_interval()?;
    }
    program.go_on()?;
    program.hear("reaped")?;
    let life = watch.exit_of(child)?.cpu_time_ns;
    ensure!(life >= 300_000_000, "{life} ns in all");
    let shown: u64 = watch
        .samples(child)
        .iter()
        .map(|sample| sample.cpu_time_ns_delta)
        .sum();
    ensure!(shown < 100_000_000, "{shown} ns are told a second time");
    program.go_on()?;
    books_balance(&watch, 0)
}
