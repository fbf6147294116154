//! What the kernel side says that it costs, and what it does when that is too much.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use procscope_agent::{observer::Hooks, sample::LOST_ENDS};
use procscope_proto::v1;
use procscope_tests_kernel::{Program, Watch, alone, status_bytes, within};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

/// Runs of a program in all snapshots so far, and their time in nanoseconds.
fn cost_of(watch: &Watch, program: &str) -> (u64, u64) {
    let costs = watch
        .snapshots
        .iter()
        .filter_map(|snapshot| snapshot.agent_cost.as_ref());
    costs
        .flat_map(|cost| &cost.programs)
        .filter(|cost| cost.name == program)
        .fold((0, 0), |(runs, ns), cost| (runs + cost.runs, ns + cost.run_ns))
}

#[test]
fn every_run_is_counted_and_its_time_is_stated() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.tick()?;
    let (forks, _ns) = cost_of(&watch, "sched_process_fork");
    let (exits, _ns) = cost_of(&watch, "sched_process_exit");
    let mut program = Program::start(LOAD, "spawn 500 /bin/true")?;
    program.hear("children_cpu_ns")?;
    watch.exit_of(program.pid())?;
    let made = cost_of(&watch, "sched_process_fork").0 - forks;
    let ended = cost_of(&watch, "sched_process_exit").0 - exits;
    ensure!(
        (501..5_000).contains(&made) && (501..5_000).contains(&ended),
        "{made} forks, {ended} exits"
    );
    let (switches, ns) = cost_of(&watch, "sched_switch");
    let cost = watch
        .snapshots
        .last()
        .context("a snapshot")?
        .agent_cost
        .clone()
        .context("its cost")?;
    println!(
        "sched_switch: {switches} runs of {} ns; attached: {:?} ns; {:?} ppm of the machine",
        ns / switches.max(1),
        cost.attach_ns,
        cost.kernel_ppm
    );
    ensure!(
        switches > 1_000 && (5..5_000).contains(&(ns / switches)),
        "{switches} runs, {ns} ns"
    );
    ensure!(cost.attach_ns.is_some_and(|ns| ns < 2_000), "{cost:?}");
    ensure!(
        cost.kernel_ppm > Some(0) && cost.kernel_budget_ppm == Some(5_000),
        "{cost:?}"
    );
    Ok(())
}

#[test]
fn beyond_the_budget_the_hot_programs_go_and_cpu_time_stays_exact() -> Result<()> {
    let _alone = alone();
    // Nothing is so cheap.
    let mut watch = Watch::with(|settings| {
        settings.hooks = Hooks::Auto;
        settings.kernel_budget_ppm = 1;
    })?;
    // Is under way when they go.
    let burner = Program::start(LOAD, "burn 1500 2")?;
    watch.until("the hot programs are gone", 30, |watch| {
        watch
            .snapshots
            .last()
            .is_some_and(|snapshot| snapshot.source() == v1::Source::EbpfQuiet)
    })?;
    let (switches, _ns) = cost_of(&watch, "sched_switch");
    // What lives in quiet mode alone.
    let mut spawner = Program::start(LOAD, "spawn 300 /bin/true")?;
    let children_ns = spawner.hear("children_cpu_ns")?;
    let threads = Program::start(LOAD, "threads 50 4")?;
    let (spawner_pid, burner_pid, threads_pid) = (spawner.pid(), burner.pid(), threads.pid());
    let spawner_exit = watch.exit_of(spawner_pid)?;
    let burner_exit = watch.exit_of(burner_pid)?;
    let threads_exit = watch.exit_of(threads_pid)?;
    watch.tick()?;
    ensure!(spawner_exit.exit_code == Some(0), "{spawner_exit:?}");
    // An end that nobody heard of is told two seconds later.
    watch.until("every child's end is told", 30, |watch| {
        watch
            .exits()
            .filter(|exit| exit.parent_pid == spawner_pid)
            .count()
            >= 300
    })?;
    let children: Vec<_> = watch
        .exits()
        .filter(|exit| exit.parent_pid == spawner_pid)
        .collect();
    ensure!(children.len() == 300, "{} of 300 ends were told", children.len());
    let sum: u64 = children.iter().map(|exit| exit.cpu_time_ns).sum();
    within("CPU time of the children", sum, children_ns, 20)?;
    within(
        "CPU time across the change",
        burner_exit.cpu_time_ns,
        burner.wait4()?.1,
        10,
    )?;
    // The kernel frees a task on top of whatever runs then. Where that is a process that it hides from programs,
    // nobody is told; each such end is counted as lost, and no other is.
    let lost = watch.losses("lost_end");
    let hides = watch
        .snapshots
        .iter()
        .flat_map(|snapshot| &snapshot.samples)
        .any(|sample| sample.source() == v1::Source::Proc);
    let (exits, frees) = (
        cost_of(&watch, "sched_process_exit").0,
        cost_of(&watch, "sched_process_free").0,
    );
    println!("{exits} exits, {frees} frees, {lost} ends lost");
    ensure!(
        lost == 0 || (hides && lost <= exits.saturating_sub(frees)),
        "{lost} ends lost of {exits}, {frees} freed in sight of the programs"
    );
    let (of_threads, told) = (threads.wait4()?.1, threads_exit.cpu_time_ns);
    // What each of them works at most, and 1 %.
    let unheard = lost * 4_400_000;
    ensure!(
        told <= of_threads / 100 * 101 && told + unheard >= of_threads / 100 * 99,
        "CPU time of threads: {told} ns told, {of_threads} ns used, {lost} ends lost"
    );
    // Runs that were under way when the programs went.
    ensure!(
        cost_of(&watch, "sched_switch").0 <= switches + 10_000,
        "they still run"
    );
    Ok(())
}

/// Share of an interval that its residual may be where burners end in it, each of which used more than that.
const QUIET_RESIDUAL_PERCENT: u64 = 20;

#[test]
fn in_quiet_mode_too_what_was_used_before_an_exit_is_in_the_interval_of_the_exit() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::with(|settings| {
        settings.hooks = Hooks::Quiet;
        settings.interval = std::time::Duration::from_millis(250);
    })?;
    watch.next_interval()?;
    let mut worst = 0;
    for _burner in 0..12 {
        let burner = Program::start(LOAD, "burn 190 1")?;
        let pid = burner.pid();
        let seen = watch.snapshots.len();
        watch.exit_of(pid)?;
        for snapshot in &watch.snapshots[seen..] {
            let audit = snapshot.audit.as_ref().context("every snapshot has its audit")?;
            let share = audit.residual_ns.unsigned_abs() * 100 / audit.wall_ns.max(1);
            worst = worst.max(share);
        }
    }
    println!("the residual of one interval is at most {worst} %");
    ensure!(worst <= QUIET_RESIDUAL_PERCENT, "{worst} % of an interval");
    Ok(())
}

#[test]
fn in_quiet_mode_the_books_balance_and_peaks_are_as_the_kernel_notes_them() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::with(|settings| settings.hooks = Hooks::Quiet)?;
    let mut program = Program::start(LOAD, "touch 80 free")?;
    let burner = Program::spawn(Command::new(LOAD).args(["burn", "2000", "1"]))?;
    program.hear("ready")?;
    watch.tick()?;
    program.go_on()?;
    program.hear("touched")?;
    watch.tick()?;
    let sample = watch.newest(program.pid())?;
    let peak = sample.peak_rss_bytes.context("known")?;
    within("peak", peak, status_bytes(program.pid(), "VmHWM")?, 10)?;
    watch.exit_of(burner.pid())?;
    let audits = watch
        .snapshots
        .iter()
        .filter_map(|snapshot| snapshot.audit.as_ref());
    let (wall, residual) = audits.fold((0_u64, 0_i64), |(wall, residual), audit| {
        (wall + audit.wall_ns, residual + audit.residual_ns)
    });
    println!("residual {residual} ns of {wall} ns");
    ensure!(
        residual.unsigned_abs() * 200 < wall,
        "residual {residual} of {wall}"
    );
    Ok(())
}

#[test]
fn a_full_buffer_loses_names_and_codes_but_no_cpu_time() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.tick()?;
    let first = watch.snapshots.len();
    // Nobody drains meanwhile: the buffer holds about 4,000 short lives.
    let mut program = Program::start(LOAD, "spawn 7000 /bin/true")?;
    let pid = program.pid();
    let children_ns = program.hear("children_cpu_ns")?;
    program.wait4()?;
    for _interval in 0..4 {
        watch.next_interval()?;
    }
    ensure!(
        watch.losses("ring_full") > 0,
        "nothing was lost, so nothing was tested"
    );
    let of_family = |sample: &&v1::ProcessSample| sample.parent_pid == pid || sample.name == LOST_ENDS;
    let samples = watch.snapshots[first..]
        .iter()
        .flat_map(|snapshot| &snapshot.samples);
    let told: u64 = samples
        .filter(of_family)
        .map(|sample| sample.cpu_time_ns_delta)
        .sum();
    ensure!(told >= children_ns / 1000 * 995, "{told} ns of {children_ns} ns");
    let audits = watch.snapshots[first..]
        .iter()
        .filter_map(|snapshot| snapshot.audit);
    let (wall, residual) = audits.fold((0_u64, 0_i64), |(wall, residual), audit| {
        (wall + audit.wall_ns, residual + audit.residual_ns)
    });
    println!("{told} ns told of {children_ns} ns, residual {residual} ns of {wall} ns");
    ensure!(
        residual.unsigned_abs() * 100 < wall,
        "residual {residual} of {wall}"
    );
    Ok(())
}
