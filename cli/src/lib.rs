//! `procscope`: what is, or was, using this fleet. The same questions that the dashboard asks, from a terminal.
//!
//! One file a command; each turns the wire's answer into data (`--json`, `--csv`) and into a page for people.

mod args;
mod audit;
mod chart;
mod client;
mod clock;
mod completions;
mod config;
mod data;
mod exits;
mod groups;
mod heading;
mod history;
mod hosts;
mod json;
mod loadgen;
mod output;
mod records;
mod sheet;
mod table;
mod text;
mod top;
mod units;
mod users;
mod when;

use std::process::ExitCode;

use procscope_startup::{Failure, Result, arguments, finish, init_logging};

use crate::{
    args::{Cli, Command},
    config::Settings,
};

/// Runs the client with the arguments of this process: 0 good, 1 the thing asked about is not so or failed,
/// 2 wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    finish("procscope", run())
}

fn run() -> Result<()> {
    let cli: Cli = arguments()?;
    if let Command::Completions(wanted) = &cli.command {
        return completions::print(wanted.shell);
    }
    let settings = Settings::new(&cli.common, &cli.global, clock::now())?;
    let live = matches!(&cli.command, Command::Top(top) if top::is_live(top, &settings));
    if !live {
        // Log lines would run across the live view.
        init_logging(&cli.common)?;
    }
    // The client waits, it does not compute: one thread does.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::failed(format_args!(
                "could not start the runtime: {error}; free some resources"
            ))
        })?;
    runtime.block_on(async {
        match &cli.command {
            Command::Top(top) if live => top::live(top, &settings).await,
            Command::Top(top) => top::once(top, &settings).await,
            Command::History(history) => history::run(history, &settings).await,
            Command::Groups(groups) => groups::run(groups, &settings).await,
            Command::Exits(exits) => exits::run(exits, &settings).await,
            Command::Hosts => hosts::run(&settings).await,
            Command::Audit => audit::run(&settings).await,
            Command::Loadgen(load) => loadgen::run(load, &settings).await,
            // Printed before, without a collector.
            Command::Completions(_) => Ok(()),
        }
    })
}
