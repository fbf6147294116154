//! Every command that CI runs and you run: `cargo xtask --help` lists them.
#![allow(
    clippy::print_stdout,
    reason = "these commands speak to a person, and stdout is where they listen"
)]

mod bench;
mod clock;
// The file of `startup`, without that crate: what it depends on would have to be compiled before anything else.
#[path = "../../startup/src/duration.rs"]
#[allow(unreachable_pub, reason = "it is public where it comes from")]
mod duration;
mod lint;
mod man;
mod picture;
mod place;
mod run;
mod runner;
mod setup;
mod shell;
mod suites;
mod tidy;
// As `duration`.
#[path = "../../startup/src/usage.rs"]
mod usage;

use std::{fmt, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::place::Place;

/// The exit code that the other programs have for it, too.
const WRONG_USAGE: u8 = 2;

/// Options that can each be read and do not go together.
#[derive(Debug)]
struct WrongUsage(String);

impl fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what building and running need; a second run does nothing
    Setup(SetupArgs),
    /// Build every program, and the programs for the kernel
    Build(BuildArgs),
    /// Engine, collector and agent on this machine, with the live top; Ctrl-C stops all of it
    Run(run::RunArgs),
    /// Run the suites, and print minutes, passed and failed
    Test(suites::TestArgs),
    /// Measure speed, print figures, and hold them against their bounds
    Bench(bench::BenchArgs),
    /// Run the tests that measure, and write what they find into docs/accuracy.md
    Accuracy,
    /// The same in the long form: burners of 10 s, storms and idling for a minute each; then an outage of ten minutes,
    /// and ten minutes of fuzzing for each reader
    Soak,
    /// Write manual pages of all programs and completions for shells into a folder
    Man(ManArgs),
    /// Draw docs/top.svg: a real screen of the live top; needs tmux and perl
    Picture,
    /// Everything that reads the code without running it
    Lint,
    /// The house rules that a compiler does not check; a part of `lint`
    Tidy,
}

#[derive(Args)]
struct SetupArgs {
    /// Also what the test suites need
    #[arg(long)]
    tests: bool,
}

#[derive(Args)]
struct ManArgs {
    /// The folder, which is made when it is not there
    #[arg(value_name = "DIR")]
    folder: std::path::PathBuf,
}

#[derive(Args)]
struct BuildArgs {
    /// Optimised, as it is shipped
    #[arg(long)]
    release: bool,
}

fn main() -> ExitCode {
    let cli: Cli = match usage::read_arguments() {
        Ok(cli) => cli,
        Err(line) => {
            eprintln!("xtask: error: {line}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let outcome = Place::find().and_then(|place| match cli.command {
        Command::Setup(args) => setup::run(&place, args.tests).map(drop),
        Command::Build(args) => run::build(&place, args.release),
        Command::Run(args) => run::run(&place, &args),
        Command::Test(args) => suites::run(&place, &args),
        Command::Bench(args) => bench::run(&place, &args),
        Command::Accuracy => accuracy(&place, false),
        Command::Soak => accuracy(&place, true)
            .and_then(|()| outage(&place))
            .and_then(|()| suites::fuzz::soak(&place)),
        Command::Man(args) => man::write(&place, &args.folder),
        Command::Picture => picture::draw(&place),
        Command::Lint => suites::lint(&place),
        Command::Tidy => lint::tidy(&place.root),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::from(code(&error))
        }
    }
}

/// Builds what the tests run, and leaves the rest to the program that knows the tests.
fn accuracy(place: &Place, long: bool) -> anyhow::Result<()> {
    run::build(place, false)?;
    let program = [
        "--package",
        "procscope-tests-kernel",
        "--bin",
        "procscope-accuracy",
    ];
    let mut cargo = shell::cargo();
    if long {
        cargo.env("PROCSCOPE_LONG", "1");
    }
    shell::run(
        cargo
            .args(["run", "--locked", "--quiet"])
            .args(program)
            .current_dir(&place.root),
    )
}

/// An outage of six hundred intervals of a second.
fn outage(place: &Place) -> anyhow::Result<()> {
    let mut cargo = shell::cargo();
    shell::run(
        cargo
            .env("PROCSCOPE_LONG", "1")
            .args([
                "test",
                "--locked",
                "--package",
                "procscope-tests-e2e",
                "--test",
                "spool",
            ])
            .args(["--", "--nocapture", "an_outage"])
            .current_dir(&place.root),
    )
}

/// 2 for wrong usage, 1 for all else.
fn code(error: &anyhow::Error) -> u8 {
    if error.is::<WrongUsage>() { WRONG_USAGE } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wrong_usage_is_exit_code_2() {
        assert_eq!(code(&WrongUsage("two equal ports".to_owned()).into()), 2);
        assert_eq!(code(&anyhow::anyhow!("a port is taken")), 1);
    }
}
