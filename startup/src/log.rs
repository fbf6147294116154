//! Logging to stderr, as text or as one JSON object a line.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::{Failure, Result, config::Common};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the whole process; call it once.
///
/// # Errors
/// Exit code 2 when the filter cannot be read.
pub fn init_logging(common: &Common) -> Result<()> {
    let filter = EnvFilter::try_new(&common.log)
        .map_err(|error| Failure::usage(format_args!("--log `{}` is no filter: {error}", common.log)))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that cannot be written (a full disk, a closed pipe) must not end what is logged about.
        .log_internal_errors(false);
    let started = match common.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::failed(format_args!("could not start logging: {error}")))
}
