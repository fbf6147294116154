//! Whose memory is whose across vfork(2) and execve(2).

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::{Program, Watch, alone, report::figure, status_bytes};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");
const MIB: u64 = 1 << 20;

#[test]
fn a_child_of_vfork_does_not_have_its_parents_memory_a_second_time() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "vfork-and-wait 200")?;
    let parent = program.pid();
    program.hear("vforked")?;
    let snapshot = watch.tick()?;
    let with_memory: Vec<_> = snapshot
        .samples
        .iter()
        .filter(|sample| sample.pid == parent || sample.parent_pid == parent)
        .collect();
    ensure!(with_memory.len() == 2, "parent and child: {with_memory:?}");
    let sum: u64 = with_memory.iter().filter_map(|sample| sample.rss_bytes).sum();
    let truth = status_bytes(parent, "VmRSS")?;
    figure(
        "resident memory of a parent of 200 MiB and its child of vfork, added up",
        "/proc/PID/status of the parent",
        &format!("{} MiB of {} MiB", sum / MIB, truth / MIB),
        "once",
    )?;
    program.go_on()?;
    program.hear("child")?;
    ensure!(sum < truth + 10 * MIB, "{sum} of {truth}: {with_memory:?}");
    ensure!(sum + MIB > truth, "{sum} of {truth}");
    Ok(())
}

/// The slot of the thread still has the large program's peak of this interval: a page that it touched, or its exec.
#[test]
fn a_peak_from_before_an_exec_is_not_the_new_programs() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let mut program = Program::start(LOAD, "touch-then-exec 200")?;
    let pid = program.pid();
    program.hear("touched")?;
    watch.tick()?;
    ensure!(watch.newest(pid)?.peak_rss_bytes > Some(200 * MIB));
    program.go_on()?;
    // Said by the new program.
    program.hear("ready")?;
    watch.tick()?;
    watch.tick()?;
    let sample = watch.newest(pid)?;
    let peak = sample.lifetime_peak_rss_bytes.context("known")?;
    ensure!(peak < 20 * MIB, "{sample:?}");
    ensure!(sample.peak_rss_bytes < Some(20 * MIB), "{sample:?}");
    program.go_on()?;
    let exit = watch.exit_of(pid)?;
    ensure!(exit.peak_rss_bytes.context("known")? < 20 * MIB, "{exit:?}");
    let most = program.max_rss_bytes()?;
    // The kernel's own mark of a process, `signal->maxrss`, is over both programs.
    ensure!(most > 200 * MIB, "getrusage says {most}: nothing was tested");
    figure(
        "peak of a small program that a large one called execve for",
        "`ru_maxrss`, which has both",
        &format!("{} MiB, {} MiB by `ru_maxrss`", peak / MIB, most / MIB),
        "under 20 MiB",
    )
}
