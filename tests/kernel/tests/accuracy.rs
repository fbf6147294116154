//! CPU time, lives and peaks of programs whose use is known: the figures that docs/accuracy.md shows.

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::{
    Program, Watch, alone,
    group::Group,
    peak_bound_bytes, proc_number,
    report::{self, figure, milliseconds, off_by_at_most, percent, ppm},
};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

/// Processes over 10 ms, in parts per million.
const PROCESS_PPM: u64 = 10_000;
/// Shorter ones: wait4(2) itself leaves out what a process does between its exit and its last switch.
const SHORT_PPM: u64 = 100_000;
/// Sums, in parts per million.
const SUM_PPM: u64 = 5_000;

/// Runs one burner several times in a control group, and shows the worst of them and their sum.
fn check_burner(milliseconds_each: u64, threads: u64, how: &str, times: u64) -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut group = Group::new()?;
    let mut program = group.start(
        LOAD,
        &format!("launch {times} burn-as {how} {milliseconds_each} {threads}"),
    )?;
    let launcher = program.pid();
    watch.exit_of(launcher)?;
    let what = format!("{threads} x {milliseconds_each} ms, {how}");
    let mut worst = (0, String::new());
    for _time in 0..times {
        let pid = u32::try_from(program.hear("child")?)?;
        let used = program.hear("used_ns")?;
        let exit = watch.exit_of(pid)?;
        let told = exit.cpu_time_ns;
        ensure!(told >= milliseconds_each * threads * 1_000_000, "{exit:?}");
        let samples = watch.samples(pid);
        let shown: u64 = samples.iter().map(|sample| sample.cpu_time_ns_delta).sum();
        ensure!(shown == told, "intervals sum to {shown}, the exit says {told}");
        let off = ppm(told.abs_diff(used), used);
        if off >= worst.0 {
            worst = (off, format!("{told} ns told, {used} by wait4"));
        }
    }
    let bound = if milliseconds_each >= 10 {
        PROCESS_PPM
    } else {
        SHORT_PPM
    };
    figure(
        &format!("{what}: worst of {times}"),
        "wait4",
        &percent(worst.0),
        &percent(bound),
    )?;
    ensure!(worst.0 <= bound, "{what}: {}", worst.1);
    let sum = watch.family(launcher).map(|exit| exit.cpu_time_ns).sum();
    off_by_at_most(
        &format!("{what}: sum of {times}"),
        "control group",
        sum,
        group.usage_ns()?,
        SUM_PPM,
    )
}

#[test]
fn burners_of_1_ms_add_up() -> Result<()> {
    check_burner(1, 1, "free", 50)
}

#[test]
fn burners_of_10_ms_are_exact() -> Result<()> {
    check_burner(10, 1, "free", 20)?;
    check_burner(10, 4, "migrating", 10)
}

#[test]
fn burners_of_100_ms_are_exact_however_they_are_scheduled() -> Result<()> {
    check_burner(100, 1, "pinned", 5)?;
    check_burner(100, 4, "free", 3)?;
    check_burner(100, 2, "migrating", 3)?;
    check_burner(100, 2, "nice", 3)?;
    check_burner(100, 1, "fifo", 3)
}

#[test]
fn a_long_burner_is_exact() -> Result<()> {
    let time = report::seconds(2, 10).as_secs() * 1000;
    check_burner(time, 1, "pinned", 1)?;
    check_burner(time, 2, "free", 1)
}

#[test]
fn ten_thousand_short_lives_are_all_told_and_add_up() -> Result<()> {
    const LIVES: u64 = 10_000;
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.forgets = true;
    let mut group = Group::new()?;
    let mut program = group.start(LOAD, &format!("spawn {LIVES} /bin/true"))?;
    let pid = program.pid();
    let (mut told, mut sum, mut longest, mut ended) = (0, 0, 0, false);
    let mut codes = 0;
    while !ended {
        for exit in &watch.next_interval()?.exits {
            if exit.pid == pid {
                ended = true;
                sum += exit.cpu_time_ns;
            } else if exit.parent_pid == pid {
                told += 1;
                sum += exit.cpu_time_ns;
                longest = longest.max(exit.cpu_time_ns);
                codes += u64::from(exit.exit_code == Some(0) && exit.exe == "/bin/true");
            }
        }
    }
    let children_ns = program.hear("children_cpu_ns")?;
    let truth = group.usage_ns()?;
    figure(
        "lives of 10,000 short processes that were told, with code and program",
        "wait4",
        &format!("{}", told.min(codes)),
        &format!("{LIVES}"),
    )?;
    ensure!(
        told == LIVES && codes == LIVES,
        "{told} told, {codes} with code and program"
    );
    println!(
        "children by wait4 {}, longest {}",
        milliseconds(children_ns),
        milliseconds(longest)
    );
    ensure!(watch.sums().lost_events == 0, "events were lost");
    off_by_at_most(
        "sum of 10,000 short processes",
        "control group",
        sum,
        truth,
        SUM_PPM,
    )
}

#[test]
fn an_exec_chain_is_one_process_with_one_total() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut group = Group::new()?;
    let program = group.start(LOAD, "exec-chain 40 5")?;
    let pid = program.pid();
    let exit = watch.exit_of(pid)?;
    let told = watch.exits().filter(|exit| exit.pid == pid).count();
    ensure!(told == 1, "{told} exits");
    ensure!(exit.exec_generation >= 40, "{exit:?}");
    off_by_at_most(
        "40 execs, 5 ms each",
        "control group",
        exit.cpu_time_ns,
        group.usage_ns()?,
        PROCESS_PPM,
    )
}

#[test]
fn kernel_threads_have_used_what_proc_says() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.tick()?;
    let kthreads: Vec<u32> = watch.snapshots[0]
        .samples
        .iter()
        .filter(|sample| sample.kernel_thread)
        .map(|sample| sample.pid)
        .collect();
    ensure!(kthreads.len() > 10, "{} kernel threads", kthreads.len());
    // Threads that come and go are work for kthreadd's and RCU's threads.
    let mut load = Program::start(LOAD, "fork-storm 1000")?;
    while load.is_running() {
        watch.next_interval()?;
    }
    let used = |pid: u32| procscope_tests_kernel::cpu_of_all_threads_ns(&[pid]);
    let before: Vec<u64> = kthreads.iter().copied().map(used).collect();
    watch.tick()?;
    let mut sum = 0;
    for (pid, before) in kthreads.into_iter().zip(before) {
        let after = used(pid);
        let Some(sample) = watch
            .snapshots
            .last()
            .context("just made")?
            .samples
            .iter()
            .find(|sample| sample.pid == pid)
        else {
            ensure!(after == 0, "kernel thread {pid} lives and has no row");
            continue;
        };
        if after > 0 {
            let told = sample.cpu_time_ns;
            ensure!(
                told >= before && told <= after,
                "{told} is not between {before} and {after}: {sample:?}"
            );
        }
        sum += sample.cpu_time_ns;
    }
    figure(
        "each kernel thread",
        "/proc/PID/schedstat before and after",
        &format!("between, {} in all", milliseconds(sum)),
        "between",
    )
}

#[test]
fn no_peak_is_under_the_true_one_by_more_than_the_bound() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let bound = peak_bound_bytes()?;
    let mut most_under = 0;
    for (mib, threads) in [(8_u64, 1), (64, 1), (64, 2), (256, 4), (32, 8)] {
        let mut program = Program::start(LOAD, &format!("touch-together {mib} {threads}"))?;
        let pid = program.pid();
        program.hear("ready")?;
        let base = proc_number(pid, "smaps_rollup", "Rss")? * 1024;
        watch.tick()?;
        program.go_on()?;
        // It allocates and frees before anybody looks.
        program.hear("freed")?;
        let truth = base + (mib << 20);
        watch.tick()?;
        let sample = watch.newest(pid)?;
        let peak = sample.peak_rss_bytes.context("known")?;
        ensure!(
            sample.rss_bytes.context("known")? < truth,
            "it was seen before it freed: {sample:?}"
        );
        println!("{mib} MiB by {threads} threads: peak {peak}, true {truth}");
        ensure!(
            peak + bound >= truth,
            "{mib} MiB by {threads} threads: {peak} is under {truth} by more than {bound}"
        );
        // Page tables and the heap of new threads are not in `truth`.
        ensure!(peak <= truth + (4 << 20), "{peak} is far over {truth}");
        most_under = most_under.max(truth.saturating_sub(peak));
    }
    figure(
        "peak of allocators of 8 to 256 MiB that free before the sample",
        "touched pages + smaps",
        &format!("at most {} KiB under", most_under / 1024),
        &format!("{} KiB", bound / 1024),
    )
}

#[test]
fn a_peak_shows_when_the_process_ends_before_the_sample() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let bound = peak_bound_bytes()?;
    let program = Program::start(LOAD, "touch-and-end 50")?;
    let pid = program.pid();
    let exit = watch.exit_of(pid)?;
    let peak = exit.peak_rss_bytes.context("known")?;
    figure(
        "peak of a process that touches 50 MiB and ends",
        "touched pages",
        &format!("{} KiB", peak / 1024),
        &format!("at least {} KiB", ((50 << 20) - bound) / 1024),
    )?;
    ensure!(peak + bound >= 50 << 20, "{exit:?}");
    ensure!(peak < 60 << 20, "{exit:?}");
    Ok(())
}
