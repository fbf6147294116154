//! Run-queue waits by length, where the agent is asked to count them.

use anyhow::{Result, ensure};
use procscope_agent::observer::Hooks;
use procscope_tests_kernel::{Program, Watch, alone};

const LOAD: &str = env!("CARGO_BIN_EXE_procscope-tests-kernel");

#[test]
fn each_wait_is_in_one_bucket_and_the_buckets_agree_with_the_sum() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::with(|settings| settings.runqueue_histogram = true)?;
    // More burners than CPUs: each waits for the others.
    let burners = (0..4)
        .map(|_burner| Program::start(LOAD, "burn 400 2"))
        .collect::<Result<Vec<_>>>()?;
    for burner in &burners {
        watch.exit_of(burner.pid())?;
    }
    for burner in &burners {
        let samples = watch.samples(burner.pid());
        let waits: u64 = samples
            .iter()
            .filter_map(|sample| sample.runqueue_waits_delta)
            .sum();
        let waited: u64 = samples.iter().filter_map(|sample| sample.runqueue_ns_delta).sum();
        let mut counts = [0_u64; 16];
        for sample in &samples {
            for (sum, count) in counts.iter_mut().zip(&sample.runqueue_wait_counts) {
                *sum += count;
            }
        }
        let counted: u64 = counts.iter().sum();
        println!("{waits} waits of {waited} ns: {counts:?}");
        // A run that is under way is a wait already; its thread has not left the CPU yet.
        ensure!(
            counted > 0 && counted <= waits && waits - counted <= 4,
            "{counted} of {waits} waits"
        );
        let least: u64 = counts
            .iter()
            .enumerate()
            .skip(1)
            .map(|(bucket, count)| count * (512 << bucket))
            .sum();
        ensure!(
            least <= waited,
            "the buckets hold {least} ns at least, {waited} were waited"
        );
        ensure!(
            counts[10..].iter().sum::<u64>() > 0,
            "nobody waited for a slice: {counts:?}"
        );
    }
    Ok(())
}

#[test]
fn without_being_asked_nothing_is_counted() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::start()?;
    let burner = Program::start(LOAD, "burn 100 2")?;
    watch.exit_of(burner.pid())?;
    let samples = watch.samples(burner.pid());
    ensure!(
        samples
            .iter()
            .all(|sample| sample.runqueue_wait_counts.is_empty())
    );
    Ok(())
}

#[test]
fn in_quiet_mode_nobody_counts_and_nothing_is_told_as_none() -> Result<()> {
    let _alone = alone();
    let mut watch = Watch::with(|settings| {
        settings.runqueue_histogram = true;
        settings.hooks = Hooks::Quiet;
    })?;
    let burner = Program::start(LOAD, "burn 300 2")?;
    watch.exit_of(burner.pid())?;
    let samples = watch.samples(burner.pid());
    ensure!(!samples.is_empty(), "it has no row");
    ensure!(
        samples
            .iter()
            .all(|sample| sample.runqueue_wait_counts.is_empty()),
        "{samples:?}"
    );
    Ok(())
}
