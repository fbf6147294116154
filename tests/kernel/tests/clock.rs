//! A wall clock that is set while the agent measures. Only a machine of its own can bear that: a guest.

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::{Program, Watch, alone, or_guest, within};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");
const DAY: i64 = 86_400;

/// Sets the wall clock so many seconds on, or back.
fn step(seconds: i64) -> Result<()> {
    let now = clock_gettime(ClockId::Realtime);
    let to = Timespec {
        tv_sec: now.tv_sec + seconds,
        ..now
    };
    clock_settime(ClockId::Realtime, to).context("set the wall clock")
}

#[test]
#[ignore = "it sets the clock of the machine, so it runs in guests only"]
fn a_wall_clock_that_jumps_changes_no_duration_and_no_identity() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let burner = Program::start(LOAD, "burn 3000 1")?;
    let mut start_times = Vec::new();
    let pid = burner.pid();
    // A day on, two back, and into the years that 32 bits do not hold.
    for jump in [0, DAY, -2 * DAY, 20 * 365 * DAY, -20 * 365 * DAY] {
        step(jump)?;
        for _interval in 0..2 {
            let snapshot = watch.next_interval()?;
            ensure!(
                snapshot.interval_ns < or_guest(1_000_000_000, 20_000_000_000),
                "an interval of {} ns after a step of {jump} s",
                snapshot.interval_ns
            );
            let told = snapshot.time.context("every snapshot has its time")?.seconds;
            let now = clock_gettime(ClockId::Realtime).tv_sec;
            ensure!((now - told).abs() < 30, "told {told}, the clock says {now}");
            let of_burner = snapshot.samples.iter().filter(|sample| sample.pid == pid);
            start_times.extend(of_burner.map(|sample| (sample.start_time, sample.process_id.clone())));
        }
    }
    ensure!(!start_times.is_empty(), "the burner was never seen");
    ensure!(
        start_times.windows(2).all(|pair| pair[0] == pair[1]),
        "start or identity changed: {start_times:?}"
    );
    let exit = watch.exit_of(pid)?;
    within(
        "CPU time across the steps",
        exit.cpu_time_ns,
        burner.wait4()?.1,
        10,
    )?;
    ensure!(
        exit.lifetime_ns < or_guest(60, 600) * 1_000_000_000,
        "a life of {} ns",
        exit.lifetime_ns
    );
    Ok(())
}
