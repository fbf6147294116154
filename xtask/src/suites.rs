//! `cargo xtask test`: every suite in its order and within its minutes, and one summary at the end.

pub(crate) mod fuzz;
mod programs;

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use self::programs::Program;
use crate::{
    lint,
    place::Place,
    runner::{Counts, Runner},
    setup::{self, Ready},
    shell::{self, cargo},
};

/// Options of `test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The suites to run; all of them when none is named
    suites: Vec<Name>,
}

/// The suites, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Formatter, clippy, documentation, tidy, licences, advisories, style of proto/
    Lint,
    /// Unit, property and documentation tests, and each crate's own integration tests
    Unit,
    /// The collector with the real engine, question by question and wire by wire
    Store,
    /// Real programs in the running kernel, held against what the kernel itself says
    Kernel,
    /// The real binaries with the real engine
    E2e,
    /// Clients that are not ours, as they are published
    Clients,
    /// Agents, collectors and the engine killed at random, networks, disks and power that fail, and the books after it
    Faults,
    /// Manifests, units, images and dashboards, by the tools that read them
    Deploy,
    /// The core of the suite kernel on Linux 6.1 and 6.12, in emulated machines
    Guests,
    /// Everything that reads bytes of strangers, led by coverage (fuzz/)
    Fuzz,
}

impl Name {
    /// Minutes that it may take on two cores, with everything compiled: twice what it takes on a good day or more, for virtual
    /// machines of one kind differ by nearly as much, and a suite that is stopped tells nothing.
    fn budget(self) -> u64 {
        match self {
            Self::Unit | Self::Deploy | Self::Fuzz => 4,
            Self::Guests => 5,
            Self::Clients => 6,
            Self::Lint | Self::Kernel => 8,
            Self::Store => 9,
            Self::E2e | Self::Faults => 12,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Store => "store",
            Self::Kernel => "kernel",
            Self::E2e => "e2e",
            Self::Clients => "clients",
            Self::Faults => "faults",
            Self::Deploy => "deploy",
            Self::Guests => "guests",
            Self::Fuzz => "fuzz",
        }
    }

    /// Whether a test program belongs to this suite.
    fn has(self, program: &Program) -> bool {
        let (package, target) = (program.package.to_str(), program.target.as_str());
        let suite = match (package, target) {
            (Some("tests/kernel"), _) => Self::Kernel,
            (Some("tests/e2e"), "deploy") => Self::Deploy,
            (Some("tests/e2e"), "clients" | "prometheus" | "rest") => Self::Clients,
            (Some("tests/e2e"), "disk" | "network")
            | (Some("tests/guests"), "power")
            | (Some("tests/faults"), _) => Self::Faults,
            (Some("tests/e2e"), _) => Self::E2e,
            (Some("tests/guests"), _) => Self::Guests,
            (Some("collector"), "it") => Self::Store,
            (Some(folder), _) if OWN.contains(&folder) => Self::Unit,
            _ => return false,
        };
        suite == self
    }
}

/// Folders of what is shipped or helps to build it: their tests need neither privilege nor whole binaries.
const OWN: [&str; 8] = [
    "agent",
    "agent-common",
    "cli",
    "collector",
    "engine",
    "proto",
    "startup",
    "xtask",
];

/// Minutes for set-up and compiling, with an empty cache: it takes 11 on a good day, and took 21 on another.
const BUILD_BUDGET: u64 = 30;

/// Unit and integration tests that run at a time: many of them wait for a store or a peer, and use no CPU meanwhile.
const UNIT_THREADS: &str = "4";

/// A line of the summary.
struct Row {
    name: &'static str,
    took: Duration,
    budget: u64,
    counts: Counts,
    /// Why it failed, beyond the tests that did.
    trouble: Option<String>,
}

/// Runs suites and prints the summary.
///
/// # Errors
/// When anything failed; the summary was printed before.
pub(crate) fn run(place: &Place, args: &TestArgs) -> Result<()> {
    let wanted: Vec<Name> = Name::value_variants()
        .iter()
        .copied()
        .filter(|name| args.suites.is_empty() || args.suites.contains(name))
        .collect();
    let start = Instant::now();
    let ready = setup::run(place, true)?;
    let runner = Runner::new()?;
    let mut rows = vec![row(
        "build",
        start,
        BUILD_BUDGET,
        build(place, &runner, &wanted, start),
    )];
    if rows[0].trouble.is_none() {
        for name in wanted {
            eprintln!("xtask: suite {}", name.word());
            let start = Instant::now();
            let outcome = suite(place, &runner, &ready, name, start);
            rows.push(row(name.word(), start, name.budget(), outcome));
            if runner.is_stopped() {
                break;
            }
        }
    }
    summarise(&rows)
}

/// Runs the lints alone.
///
/// # Errors
/// When one failed.
pub(crate) fn lint(place: &Place) -> Result<()> {
    setup::run(place, true)?;
    let runner = Runner::new()?;
    let counts = lint::all(place, &runner, Instant::now() + minutes(BUILD_BUDGET))?;
    ensure!(
        counts.failed == 0,
        "{} of {} lints failed",
        counts.failed,
        counts.passed + counts.failed
    );
    Ok(())
}

/// Compiles what the suites run, so that their minutes are their own.
fn build(place: &Place, runner: &Runner, wanted: &[Name], start: Instant) -> Result<Counts> {
    let deadline = start + minutes(BUILD_BUDGET);
    let mut commands = vec![words(place, &["build", "--locked"])];
    if wanted.iter().any(|name| !matches!(name, Name::Lint | Name::Fuzz)) {
        commands.push(programs::compile(&place.root));
    }
    if wanted.contains(&Name::Fuzz) {
        commands.push(fuzz::compile(place));
    }
    for mut command in commands {
        let ran = runner.run(&mut command, deadline)?;
        ensure!(ran.succeeded, "`{}` failed", shell::words(&command));
    }
    if wanted.contains(&Name::Guests) {
        for program in programs::list(&place.root)?
            .iter()
            .filter(|program| program.is_guests())
        {
            // What runs in the guests is compiled once more, as static programs.
            let mut command = program.command(&place.root);
            let ran = runner.run(command.arg("--no-run"), deadline)?;
            ensure!(ran.succeeded, "`{}` failed", shell::words(&command));
        }
    }
    Ok(Counts::default())
}

/// A command of cargo's in the workspace.
fn words(place: &Place, arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(arguments).current_dir(&place.root);
    command
}

fn suite(place: &Place, runner: &Runner, ready: &Ready, name: Name, start: Instant) -> Result<Counts> {
    let deadline = start + minutes(name.budget());
    let commands = match name {
        Name::Lint => return lint::all(place, runner, deadline),
        Name::Fuzz => return fuzz::all(place, runner, deadline),
        _ => {
            let programs = programs::list(&place.root)?;
            let mut commands: Vec<Command> = programs
                .iter()
                .filter(|program| name.has(program))
                .map(|program| program.command(&place.root))
                .collect();
            if name == Name::Unit {
                // The examples in the documentation of all default members.
                commands.push(words(place, &["test", "--locked", "--doc", "--no-fail-fast"]));
            }
            commands
        }
    };
    let path = path(place)?;
    let mut counts = Counts::default();
    for mut command in commands {
        command
            .env("PATH", &path)
            .env("PROCSCOPE_LIBCHDB", &ready.library);
        if matches!(name, Name::Unit | Name::Store) {
            command.env("RUST_TEST_THREADS", UNIT_THREADS);
        }
        let ran = runner.run(&mut command, deadline)?;
        counts += ran.counts;
        if !ran.succeeded && ran.counts.failed == 0 {
            // A test program that crashed has no closing line.
            counts += Counts::FAILED;
        }
    }
    ensure!(counts.passed + counts.failed > 0, "it ran no test");
    Ok(counts)
}

/// `PATH` with what set-up installed for the suites in front.
fn path(place: &Place) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = place
        .test_tool_folders()
        .into_iter()
        .chain(env::split_paths(&path));
    env::join_paths(folders).context("put the tools of the suites into PATH")
}

fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

/// Judges a suite: its tests, its time, and whether it could run at all.
fn row(name: &'static str, start: Instant, budget: u64, outcome: Result<Counts>) -> Row {
    let took = start.elapsed();
    let (mut counts, mut trouble) = match outcome {
        Ok(counts) => (counts, None),
        Err(error) => (Counts::FAILED, Some(format!("{error:#}"))),
    };
    if trouble.is_none() && took > minutes(budget) {
        counts += Counts::FAILED;
        trouble = Some(format!("it took more than its {budget} minutes"));
    }
    Row {
        name,
        took,
        budget,
        counts,
        trouble,
    }
}

/// Prints the table and, as the last line, the sum.
fn summarise(rows: &[Row]) -> Result<()> {
    let mut sum = Counts::default();
    println!(
        "\n{:<8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "suite", "minutes", "budget", "passed", "failed", "ignored"
    );
    for row in rows {
        sum += row.counts;
        let Counts {
            passed,
            failed,
            ignored,
        } = row.counts;
        let took = row.took.as_secs_f64() / 60.0;
        println!(
            "{:<8} {took:>8.1} {:>8} {passed:>8} {failed:>8} {ignored:>8}",
            row.name, row.budget
        );
    }
    let took = rows.iter().map(|row| row.took).sum::<Duration>().as_secs_f64() / 60.0;
    println!("{:<8} {took:>8.1}", "all");
    for row in rows {
        if let Some(trouble) = &row.trouble {
            println!("{}: {trouble}", row.name);
        }
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    ensure!(sum.failed == 0, "not everything passed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_above_its_budget_has_failed() {
        let start = Instant::now().checked_sub(Duration::from_mins(3)).unwrap();
        assert_eq!(row("unit", start, 4, Ok(Counts::PASSED)).counts, Counts::PASSED);
        let late = row("unit", start, 2, Ok(Counts::PASSED));
        assert_eq!((late.counts.passed, late.counts.failed), (1, 1));
        assert!(late.trouble.is_some());
    }

    #[test]
    fn a_test_program_belongs_to_one_suite() {
        let suites = |package: &str, target: &str| -> Vec<&str> {
            let program = Program::new(package, target, "/program");
            Name::value_variants()
                .iter()
                .filter(|name| name.has(&program))
                .map(|name| name.word())
                .collect()
        };
        assert_eq!(suites("tests/kernel", "lifecycle"), ["kernel"]);
        assert_eq!(suites("engine", "lifecycle"), ["unit"]);
        assert_eq!(suites("collector", "procscope_collector"), ["unit"]);
        assert_eq!(suites("collector", "it"), ["store"]);
        assert_eq!(suites("bench", "procscope-bench"), Vec::<&str>::new());
        assert_eq!(suites("tests/e2e", "flow"), ["e2e"]);
        assert_eq!(suites("tests/e2e", "deploy"), ["deploy"]);
        assert_eq!(suites("tests/e2e", "prometheus"), ["clients"]);
        assert_eq!(suites("tests/e2e", "network"), ["faults"]);
        assert_eq!(suites("tests/guests", "power"), ["faults"]);
        assert_eq!(suites("tests/faults", "kills"), ["faults"]);
        assert_eq!(suites("tests/guests", "guests"), ["guests"]);
    }

    #[test]
    fn a_suite_that_could_not_run_has_failed() {
        let row = row("unit", Instant::now(), 4, Err(anyhow::anyhow!("no compiler")));
        assert_eq!(row.counts, Counts::FAILED);
        assert!(summarise(&[row]).is_err());
    }

    #[test]
    fn all_that_passed_is_a_success() {
        summarise(&[row("unit", Instant::now(), 4, Ok(Counts::PASSED))]).unwrap();
    }
}
