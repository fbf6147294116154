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
/// The default members of the workspace: with the same selection of packages as `cargo build`, cargo chooses the same
/// features for what they depend on, and compiles none of it again.
const SELECTION: [&str; 8] = [
    "procscope",
    "procscope-agent",
    "procscope-agent-common",
    "procscope-collector",
    "procscope-engine",
    "procscope-proto",
    "procscope-startup",
    "xtask",
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
    for package in SELECTION {
        build.args(["--package", package]);
    }
    for (target, _input_bytes) in TARGETS {
        build.args(["--bin", &format!("fuzz-{target}")]);
    }
    build.env(
        "RUSTC_WORKSPACE_WRAPPER",
        place.root.join("fuzz/rustc-with-coverage"),
    );
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
        let mut run = Command::new(place.programs.join(format!("fuzz-{target}")));
        run.current_dir(&place.root)
            .args([&found, &known])
            .arg(format!("-artifact_prefix={}/failed-", found.display()))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-max_len={input_bytes}"))
            .args(["-print_final_stats=1", "-verbosity=0"]);
        counts += if runner.run(&mut run, deadline)?.succeeded {
            Counts::PASSED
        } else {
            eprintln!("xtask: fuzz-{target} failed: the lines above name the file that shows it");
            Counts::FAILED
        };
    }
    Ok(counts)
}
