//! Resident memory and its peaks, held against /proc/PID/status.

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::{Program, Watch, alone, status_bytes, within};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");
const MIB: u64 = 1 << 20;

#[test]
fn what_is_touched_is_resident_and_is_the_peak() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "touch 300 keep")?;
    let pid = program.pid();
    program.hear("ready")?;
    program.go_on()?;
    program.hear("touched")?;
    let snapshot = watch.tick()?;
    let sample = snapshot
        .samples
        .iter()
        .find(|sample| sample.pid == pid)
        .context("it runs")?;
    within(
        "resident",
        sample.rss_bytes.context("known")?,
        status_bytes(pid, "VmRSS")?,
        10,
    )?;
    within(
        "peak",
        sample.peak_rss_bytes.context("known")?,
        status_bytes(pid, "VmHWM")?,
        10,
    )?;
    within(
        "peak of the life",
        sample.lifetime_peak_rss_bytes.context("known")?,
        status_bytes(pid, "VmHWM")?,
        10,
    )
}

#[test]
fn what_was_freed_between_two_samples_shows_as_peak_of_that_interval_only() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "touch 300 free")?;
    let pid = program.pid();
    program.hear("ready")?;
    watch.tick()?;
    program.go_on()?;
    program.hear("touched")?;
    watch.tick()?;
    let sample = watch.newest(pid)?;
    ensure!(sample.rss_bytes.context("known")? < 20 * MIB, "{sample:?}");
    ensure!(sample.peak_rss_bytes.context("known")? >= 297 * MIB, "{sample:?}");
    within(
        "peak",
        sample.peak_rss_bytes.context("known")?,
        status_bytes(pid, "VmHWM")?,
        10,
    )?;
    watch.tick()?;
    let sample = watch.newest(pid)?;
    ensure!(
        sample.peak_rss_bytes.context("known")? < 20 * MIB,
        "the peak belongs to one interval: {sample:?}"
    );
    ensure!(
        sample.lifetime_peak_rss_bytes.context("known")? >= 297 * MIB,
        "{sample:?}"
    );
    program.go_on()?;
    let exit = watch.exit_of(pid)?;
    ensure!(exit.peak_rss_bytes.context("known")? >= 297 * MIB, "{exit:?}");
    let last = watch.newest(pid)?;
    ensure!(
        last.exited && last.peak_rss_bytes.context("known")? < 20 * MIB,
        "the peak of the life is not that of its last interval: {last:?}"
    );
    Ok(())
}

#[test]
fn a_peak_below_the_kernels_own_mark_still_shows() -> Result<()> {
    let _alone = alone();
    let mut program = Program::start(LOAD, "touch 100 free")?;
    let pid = program.pid();
    program.hear("ready")?;
    // The mark of its life is above anything that follows, and was made before we came.
    let mut watch = Watch::start()?;
    program.go_on()?;
    program.hear("touched")?;
    watch.tick()?;
    ensure!(
        watch.newest(pid)?.peak_rss_bytes.context("known")? >= 99 * MIB,
        "{:?}",
        watch.newest(pid)?
    );
    Ok(())
}

#[test]
fn a_kernel_thread_has_no_memory_and_says_so() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.tick()?;
    let kthreadd = watch.newest(2)?;
    ensure!(
        kthreadd.kernel_thread && kthreadd.name == "kthreadd",
        "{kthreadd:?}"
    );
    ensure!(
        kthreadd.rss_bytes.is_none() && kthreadd.peak_rss_bytes.is_none(),
        "{kthreadd:?}"
    );
    Ok(())
}
