//! The suites of whole binaries stand in `tests/`; this program only says so.

use std::io::Write as _;

fn main() -> std::process::ExitCode {
    drop(writeln!(
        std::io::stderr(),
        "run `cargo xtask test e2e` or `cargo xtask test deploy`"
    ));
    std::process::ExitCode::from(2)
}
