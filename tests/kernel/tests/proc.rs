//! Figures without programs in the kernel, and of processes that a kernel hides from them: /proc, and labelled so.

use anyhow::{Context as _, Result, ensure};
use procscope_agent::observer::SourceChoice;
use procscope_proto::v1;
use procscope_tests_kernel::{Program, Watch, alone, process_clock_ns, status_bytes, wait_until, within};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

#[test]
fn sampled_processes_have_exact_cpu_time_and_null_where_proc_is_silent() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start_with(SourceChoice::Proc)?;
    let mut memory = Program::start(LOAD, "touch 60 keep")?;
    let burner = Program::start(LOAD, "burn 700 2")?;
    let pid = burner.pid();
    memory.hear("ready")?;
    memory.go_on()?;
    memory.hear("touched")?;
    watch.until("the burner has ended", 20, |watch| {
        watch.newest(pid).is_ok_and(|sample| sample.state == "Z")
    })?;
    let (_status, cpu_ns) = burner.wait4()?;
    let exit = watch.exit_of(pid)?;
    ensure!(
        exit.exit_code.is_none() && exit.exit_signal.is_none() && exit.runqueue_ns.is_none(),
        "{exit:?}"
    );
    // It was reaped after its last sample, which found a zombie: nothing is missing.
    within("CPU time", exit.cpu_time_ns, cpu_ns, 10)?;
    let sample = watch.newest(memory.pid())?;
    ensure!(sample.source() == v1::Source::Proc, "{sample:?}");
    ensure!(
        sample.rss_bytes == Some(status_bytes(memory.pid(), "VmRSS")?),
        "{sample:?}"
    );
    ensure!(
        sample.voluntary_switches_delta.is_none() && sample.read_bytes_delta.is_some(),
        "{sample:?}"
    );
    let snapshot = watch.snapshots.last().context("a snapshot")?;
    ensure!(
        snapshot.source() == v1::Source::Proc,
        "the snapshot says where it is from"
    );
    ensure!(snapshot.losses.is_empty(), "{:?}", snapshot.losses);
    Ok(())
}

#[test]
fn what_was_there_before_has_no_past_in_an_interval_of_proc() -> Result<()> {
    let _alone = alone();
    let burner = Program::start(LOAD, "burn 4000 1")?;
    let pid = burner.pid();
    wait_until("it has a past", 10, || {
        process_clock_ns(pid).is_ok_and(|ns| ns > 200_000_000)
    })?;
    let mut watch = Watch::start_with(SourceChoice::Proc)?;
    watch.tick()?;
    let sample = watch.newest(pid)?;
    ensure!(
        sample.cpu_time_ns >= sample.cpu_time_ns_delta + 200_000_000,
        "{sample:?}"
    );
    burner.kill(libc::SIGKILL);
    Ok(())
}

#[test]
fn every_process_of_proc_is_in_the_rows_also_those_hidden_from_programs() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    watch.tick()?;
    let pids = procscope_agent::host::processes();
    watch.tick()?;
    let snapshot = watch.snapshots.last().context("a snapshot")?;
    let missing: Vec<u32> = pids
        .into_iter()
        .filter(|pid| !snapshot.samples.iter().any(|sample| sample.pid == *pid))
        .collect();
    ensure!(missing.is_empty(), "no rows of {missing:?}");
    for sample in &snapshot.samples {
        if sample.source() == v1::Source::Proc {
            println!("{} ({}) is hidden from programs", sample.pid, sample.name);
        }
    }
    Ok(())
}
