//! `procscope-bench`: figures of speed, which `cargo xtask bench` asks for. Bounds are held here, never by timed
//! tests: a bound that is exceeded is a line on stderr and exit code 1.
#![allow(
    clippy::print_stdout,
    reason = "figures are for a person, and stdout is where they are looked for"
)]

mod agent;
mod drain;
mod fleet;
mod http;
mod ingest;
mod kernel;
mod loads;
mod programs;
mod query;
mod readers;
mod report;
mod sink;
mod spool;
mod store;
mod tasks;
mod used;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::report::Verdict;

/// Figures of speed, and the bounds that they keep.
#[derive(Debug, Parser)]
#[command(name = "procscope-bench", version)]
enum Command {
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
    /// The other end of a pipe
    #[command(name = loads::ECHO, hide = true)]
    Echo,
    /// The parent of tasks that sleep
    #[command(name = tasks::TASKS, hide = true)]
    Tasks {
        processes: usize,
        threads: usize,
        active: usize,
    },
}

fn main() -> ExitCode {
    match start(&Command::parse()) {
        Ok(verdict) if verdict.exceeded.is_empty() => ExitCode::SUCCESS,
        Ok(verdict) => {
            for line in verdict.exceeded {
                eprintln!("procscope-bench: error: {line}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("procscope-bench: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: &Command) -> Result<Verdict> {
    match command {
        Command::Kernel => kernel::run(),
        Command::Drain => drain::run(),
        Command::Agent => agent::run(),
        Command::Spool => spool::run(),
        Command::Query => query::run(),
        Command::Ingest => ingest::run(),
        Command::Tasks {
            processes,
            threads,
            active,
        } => tasks::be_parent(*processes, *threads, *active).map(|()| Verdict::default()),
        Command::Echo => loads::echo().map(|()| Verdict::default()),
    }
}
