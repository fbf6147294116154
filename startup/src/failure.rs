//! How a binary fails: one line on stderr and the documented exit code.

use std::{fmt, io::Write as _, process::ExitCode};

/// Why a binary stops without success. Displays as one line that says what was tried, on what, why it failed
/// and what to do next.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    line: String,
}

/// What the fallible parts of a binary return.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The thing asked about is not so, or failed: exit code 1.
    pub fn failed(line: impl fmt::Display) -> Self {
        Self {
            code: 1,
            line: one_line(&line.to_string()),
        }
    }

    /// Wrong usage or configuration: exit code 2.
    pub fn usage(line: impl fmt::Display) -> Self {
        Self {
            code: 2,
            line: one_line(&line.to_string()),
        }
    }

    /// The exit code: 1 or 2.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Failure {}

/// Joins lines with a blank, so that an error stays one line whatever a library put into it.
fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Turns the outcome of `main` into an exit code; a failure is printed as `PROGRAM: error: LINE`.
#[must_use]
pub fn finish(program: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // With stderr gone, the exit code has to do.
            drop(writeln!(std::io::stderr(), "{program}: error: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_a_library_said() {
        assert_eq!(Failure::failed("a\n  b\n\nc\n").to_string(), "a b c");
    }
}
