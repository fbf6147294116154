//! Arguments, configuration, logging, exit code.

use std::process::ExitCode;

use procscope_agent::config::{self, Cli, Command};
use procscope_startup::{Result, arguments, finish, init_logging};

fn main() -> ExitCode {
    finish("procscope-agent", arguments().and_then(start))
}

fn start(cli: Cli) -> Result<()> {
    init_logging(&cli.common)?;
    let file = config::read_file(&cli.common)?;
    let run = match cli.command {
        Some(Command::Check) => return procscope_agent::check::check(&mut std::io::stdout().lock()),
        Some(Command::Sample(args)) => {
            let settings = config::settings(&args.measure, &file)?;
            let stop = procscope_agent::stop_on_signals()?;
            return procscope_agent::sample(settings, args.count, args.format, &stop);
        }
        Some(Command::Run(args)) => *args,
        None => cli.run,
    };
    let config = config::run_config(&run, &file)?;
    let stop = procscope_agent::stop_on_signals()?;
    if config.die_with_parent {
        die_with_parent()?;
    }
    procscope_agent::run(config, &stop)
}

/// Asks the kernel for SIGTERM when the process that started this one ends.
fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).map_err(|error| {
        procscope_startup::Failure::failed(format_args!("could not ask to end with the parent: {error}"))
    })
}
