//! Arguments, configuration, logging, exit code.

use std::process::ExitCode;

use procscope_engine::{
    chdb::exit_now,
    config::{Args, Config},
    start,
};
use procscope_startup::{Result, arguments, finish, init_logging};

fn main() -> ExitCode {
    let code = match run() {
        Ok(()) => 0,
        Err(failure) => {
            let code = failure.code();
            let _printed = finish("procscope-engine", Err(failure));
            code
        }
    };
    // The library's own threads may still run: its destructors must not.
    exit_now(code)
}

fn run() -> Result<()> {
    let args: Args = arguments()?;
    init_logging(&args.common)?;
    start(Config::new(args)?)
}
