//! `cargo xtask bench`: figures of speed, in the release profile, and the bounds that they must keep.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{
    place::Place,
    setup,
    shell::{cargo, run as run_command},
};

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The benchmarks to run; all of them when none is named
    names: Vec<Name>,
}

/// The benchmarks, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Each program in the kernel, beside an empty one and the usual one
    Kernel,
    /// One drain of 1,000, 10,000 and 50,000 tasks
    Drain,
    /// The agent beside pidstat and atop, with 100, 1,000 and 4,000 processes
    Agent,
    /// What an outage costs the disk, with 200 processes
    Spool,
    /// Questions over a week of 100 hosts, beside the same SQL sent to the engine directly
    Query,
    /// What a row costs from the wire into the store, beside the bare engine's best insert
    Ingest,
}

/// What the agent is measured beside: programs, and the Debian packages that bring them.
const PEERS: [(&str, &str); 2] = [("pidstat", "sysstat"), ("atop", "atop")];

/// Sets up, builds and measures. All are measured, whatever the ones before found.
///
/// # Errors
/// Names those that did not keep a bound or could not be measured; the lines before say what and why.
pub(crate) fn run(place: &Place, args: &BenchArgs) -> Result<()> {
    let names: Vec<Name> = Name::value_variants()
        .iter()
        .copied()
        .filter(|name| args.names.is_empty() || args.names.contains(name))
        .collect();
    setup::run(place, false)?;
    if names.contains(&Name::Agent) {
        setup::programs(place, &PEERS)?;
    }
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked"])
        .args(["--package", "procscope-agent", "--package", "procscope-bench"])
        .args([
            "--package",
            "procscope-collector",
            "--package",
            "procscope-engine",
            "--package",
            "procscope",
        ])
        .current_dir(&place.root);
    run_command(&mut build)?;
    let folder = place
        .programs
        .parent()
        .context("find the folder of all profiles")?
        .join("release");
    let mut failed = Vec::new();
    for name in names {
        let name = name.to_possible_value().context("name the benchmark")?;
        println!("== {}", name.get_name());
        let status = Command::new(folder.join("procscope-bench"))
            .arg(name.get_name())
            .current_dir(&place.root)
            .status()
            .context("start procscope-bench")?;
        if !status.success() {
            failed.push(name.get_name().to_owned());
        }
    }
    ensure!(failed.is_empty(), "benchmarks that failed: {}", failed.join(", "));
    Ok(())
}
