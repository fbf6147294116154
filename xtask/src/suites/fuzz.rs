//! The targets of `fuzz/`: compiled so that they tell which edges run, and run for a while each.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::words;
use crate::{
    place::Place,
    runner::{Counts, Runner},
};

/// What is fuzzed: programs of `fuzz/` and folders below `fuzz/corpus`, with the bytes of an input: what is longer in
/// life is not other, or is cut before it is read.
const TARGETS: [(&str, u32); 5] = [
    ("segment", 1 << 16),
    ("snapshot", 1 << 16),
    ("proc", 1 << 14),
    ("scrub", 1 << 9),
    ("request", 1 << 14),
];
/// Seconds for each in a suite, and in the long form.
const SECONDS: u32 = 20;
const SECONDS_LONG: u32 = 600;
/// Memory that a target may take: nothing may be allocated because some bytes claim so. The segment reader holds a
/// file of 35 MiB and two snapshots of 16 MiB.
const MEMORY_MIB: u32 = 512;
/// Seconds that one input may take.
const INPUT_SECONDS: u32 = 10;

/// What compiles the targets: our own crates once more, for the compiler is told to count their edges.
pub(super) fn compile(place: &Place) -> Command {
    let mut build = words(place, &["build", "--locked", "--package", "procscope-fuzz"]);
    counting(place, &mut build);
    build
}

/// Runs every target on what is known already, then on what it makes of that.
///
/// # Errors
/// When a target cannot be started, or the deadline passes.
pub(super) fn all(place: &Place, runner: &Runner, deadline: Instant) -> Result<Counts> {
    run(place, runner, SECONDS, deadline)
}

/// The same for ten minutes each.
///
/// # Errors
/// When an input made one fail.
pub(crate) fn soak(place: &Place) -> Result<()> {
    let runner = Runner::new()?;
    let deadline = Instant::now() + Duration::from_hours(2);
    ensure!(
        runner.run(&mut compile(place), deadline)?.succeeded,
        "the targets do not compile"
    );
    let counts = run(place, &runner, SECONDS_LONG, deadline)?;
    ensure!(
        counts.failed == 0,
        "{} of {} targets failed",
        counts.failed,
        TARGETS.len()
    );
    Ok(())
}

fn run(place: &Place, runner: &Runner, seconds: u32, deadline: Instant) -> Result<Counts> {
    let mut counts = Counts::default();
    for (target, input_bytes) in TARGETS {
        let known = place.root.join("fuzz/corpus").join(target);
        ensure!(known.is_dir(), "there is no corpus {}", known.display());
        // What is found stays with this machine; what is worth keeping for all goes into the repository.
        let found = place.cache.join("fuzz").join(target);
        fs::create_dir_all(&found).with_context(|| format!("create {}", found.display()))?;
        let mut run = words(
            place,
            &["run", "--locked", "--quiet", "--package", "procscope-fuzz"],
        );
        run.args(["--bin", &format!("fuzz-{target}"), "--"])
            .args([&found, &known])
            .arg(format!("-artifact_prefix={}/failed-", found.display()))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-max_len={input_bytes}"))
            .args(["-print_final_stats=1", "-verbosity=0"]);
        counting(place, &mut run);
        counts += if runner.run(&mut run, deadline)?.succeeded {
            Counts::PASSED
        } else {
            eprintln!("xtask: fuzz-{target} failed: the lines above name the file that shows it");
            Counts::FAILED
        };
    }
    Ok(counts)
}

fn counting(place: &Place, command: &mut Command) {
    command.env(
        "RUSTC_WORKSPACE_WRAPPER",
        place.root.join("fuzz/rustc-with-coverage"),
    );
}
