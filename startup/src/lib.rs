//! What every procscope binary does the same way when it starts and when it fails: common arguments,
//! configuration files, logging, secrets, durations, and errors in one line with the documented exit code.

mod config;
mod duration;
mod exposition;
mod failure;
mod folder;
mod listen;
mod log;
mod pages;
mod secret;
mod sheet;
mod usage;
#[cfg(feature = "wire")]
pub mod wire;

pub use config::{Common, read_config};
pub use duration::{format_duration, parse_duration};
pub use exposition::exposition;
pub use failure::{Failure, Result, finish};
pub use folder::{check_state_folder, open_folder};
pub use listen::{check_listen, is_loopback_host};
pub use log::{LogFormat, init_logging};
pub use secret::{read_private, read_public, read_secret};
pub use sheet::no_formula;

/// Reads the arguments of this process into its own type. Where they ask for help, the version or manual pages,
/// gives that and ends the process.
///
/// # Errors
/// Exit code 2: which argument, why it cannot be taken, and what to do. Exit code 1: why pages cannot be written.
pub fn arguments<T: clap::Parser>() -> Result<T> {
    if let Some(folder) = pages::folder(std::env::args_os()) {
        pages::write::<T>(&folder)?;
        std::process::exit(0);
    }
    usage::read_arguments().map_err(Failure::usage)
}
