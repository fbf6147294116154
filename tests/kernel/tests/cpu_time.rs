//! CPU time, held against each process's own clock while it runs and against wait4(2) after its end.

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::{Program, Watch, alone, or_guest, process_clock_ns, within};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

/// The task's time is accounted at each tick at the latest.
const TICK_NS: u64 = 4_000_000;

/// Watches a burner of some threads while it runs and after.
fn check_burner(milliseconds: u64, threads: u64) -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let program = Program::start(LOAD, &format!("burn {milliseconds} {threads}"))?;
    let pid = program.pid();
    watch.until("the burner has burnt a while", 60, |watch| {
        watch
            .newest(pid)
            .is_ok_and(|sample| sample.cpu_time_ns > milliseconds * 600_000)
    })?;
    let before = process_clock_ns(pid)?;
    let sample_ns = watch
        .tick()?
        .samples
        .iter()
        .find(|sample| sample.pid == pid)
        .context("runs")?
        .cpu_time_ns;
    let after = process_clock_ns(pid)?;
    // A burner that has ended by now was measured to its last instruction, by the clock only to its release.
    let release_ns = or_guest(0, TICK_NS);
    ensure!(
        sample_ns + threads * TICK_NS >= before && sample_ns <= after + release_ns,
        "{sample_ns} is not between {before} and {after}"
    );
    let exit = watch.exit_of(pid)?;
    let (_status, used) = program.wait4()?;
    within("CPU time at the exit", exit.cpu_time_ns, used, 10)?;
    let sum: u64 = watch
        .samples(pid)
        .iter()
        .map(|sample| sample.cpu_time_ns_delta)
        .sum();
    ensure!(
        sum == exit.cpu_time_ns,
        "intervals sum to {sum}, the exit says {}",
        exit.cpu_time_ns
    );
    Ok(())
}

#[test]
fn a_hog_that_never_gives_up_its_cpu_is_exact_while_it_runs_and_at_its_end() -> Result<()> {
    check_burner(2_000, 1)
}

#[test]
fn two_threads_on_two_cpus_are_one_process() -> Result<()> {
    check_burner(1_000, 2)
}

#[test]
fn a_short_burner_is_as_exact_as_a_long_one() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    for milliseconds in [10, 30, 100] {
        let program = Program::start(LOAD, &format!("burn {milliseconds} 1"))?;
        let pid = program.pid();
        let exit = watch.exit_of(pid)?;
        let (_status, used) = program.wait4()?;
        within(&format!("{milliseconds} ms"), exit.cpu_time_ns, used, 10)?;
    }
    Ok(())
}

#[test]
fn short_lives_are_all_told_with_their_codes_and_their_sum() -> Result<()> {
    let runs = or_guest(2_000, 300);
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, &format!("spawn {runs} /bin/true"))?;
    let shell = program.pid();
    watch.until("the last one has run", 120, |watch| {
        watch.exits().any(|exit| exit.pid == shell)
    })?;
    let children_ns = program.hear("children_cpu_ns")?;
    // An exit may wait one more interval for its final figure.
    watch.tick()?;
    let told: Vec<_> = watch.exits().filter(|exit| exit.parent_pid == shell).collect();
    ensure!(
        told.len() * 1000 >= runs * 999 && told.len() <= runs,
        "{} of {runs} were told",
        told.len()
    );
    ensure!(
        told.iter()
            .all(|exit| exit.name == "true" && exit.exe == "/bin/true" && exit.exit_code == Some(0))
    );
    let ids: std::collections::HashSet<_> = told.iter().map(|exit| &exit.process_id).collect();
    ensure!(ids.len() == told.len(), "two lives have one identity");
    within(
        "CPU time of all",
        told.iter().map(|exit| exit.cpu_time_ns).sum(),
        children_ns,
        20,
    )?;
    ensure!(watch.losses("ring_full") == 0 && watch.losses("lost_end") == 0);
    Ok(())
}

#[test]
fn threads_that_come_and_go_stay_in_the_total_and_make_no_spike() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let program = Program::start(LOAD, "threads 200 2")?;
    let exit = watch.exit_of(program.pid())?;
    let (_status, used) = program.wait4()?;
    // The kernel closes its own books of a thread a little before the thread's last instruction.
    within(
        "CPU time of threads that ended",
        exit.cpu_time_ns,
        used,
        or_guest(10, 30),
    )?;
    Ok(())
}

#[test]
fn attaching_in_the_middle_puts_no_past_into_an_interval() -> Result<()> {
    let _alone = alone();
    let program = Program::start(LOAD, "burn 600000 2")?;
    let pid = program.pid();
    procscope_tests_kernel::wait_until("it has a past", 30, || {
        process_clock_ns(pid).is_ok_and(|used| used > 1_000_000_000)
    })?;
    let past = process_clock_ns(pid)?;
    let mut watch = Watch::start()?;
    let then = process_clock_ns(pid)?;
    watch.until("it has burnt on", 30, |watch| {
        watch
            .newest(pid)
            .is_ok_and(|sample| sample.cpu_time_ns > then + 300_000_000)
    })?;
    program.kill(libc::SIGKILL);
    let exit = watch.exit_of(pid)?;
    let (_status, used) = program.wait4()?;
    within("CPU time of the whole life", exit.cpu_time_ns, used, 10)?;
    let shown: u64 = watch
        .samples(pid)
        .iter()
        .map(|sample| sample.cpu_time_ns_delta)
        .sum();
    ensure!(
        shown <= used - past,
        "intervals show {shown} ns, but only {} were used since",
        used - past
    );
    Ok(())
}
