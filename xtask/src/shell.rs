//! Other programs run to their end: what they say is passed on, kept in a log, or returned.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

/// Tries of a step that talks to a network.
const TRIES: u32 = 3;
/// Time between these tries; the second pause is twice as long.
const PAUSE: Duration = Duration::from_secs(3);
/// Lines of a failed program's log that are shown.
const LOG_LINES: usize = 25;

/// A command, in the words that a person would type.
pub(crate) fn words(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words
        .into_iter()
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo has told us of our own package: build scripts that look at it would run again, and all that rests on
    // them would be compiled again, whenever another program than the last starts cargo.
    for (name, _value) in std::env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if is_ours {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs with all it says on our stderr: our stdout is for answers.
///
/// # Errors
/// When it cannot be started or ends with anything but 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = words(command);
    let status = command
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// Runs in silence and returns what it wrote to stdout.
///
/// # Errors
/// As `run`; the text then carries what it wrote to stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = words(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{line}`"))?;
    if !output.status.success() {
        bail!(
            "`{line}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs with everything it says in the file `log`, whose end is shown when it fails.
///
/// # Errors
/// As `run`; the text names the log.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let line = words(command);
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let copy = file.try_clone().context("share the log")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .status()
        .with_context(|| format!("start `{line}`"))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    for line in last_lines(&text, LOG_LINES) {
        eprintln!("    {line}");
    }
    bail!("`{line}` failed ({status}); all it said is in {}", log.display())
}

/// The last lines of a text, without the empty ones.
pub(crate) fn last_lines(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// Repeats a step that may fail for a reason that passes, such as a network.
///
/// # Errors
/// The last try's.
pub(crate) fn retry<T>(what: &str, mut step: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tried = 1;
    loop {
        match step() {
            Ok(done) => return Ok(done),
            Err(error) if tried < TRIES => {
                eprintln!("xtask: {what} failed ({error:#}); trying again");
                thread::sleep(PAUSE * tried);
                tried += 1;
            }
            Err(error) => return Err(error.context(format!("{what}, tried {TRIES} times"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_command_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"])).unwrap_err();
        let line = format!("{error:#}");
        assert!(
            line.contains("no such luck") && line.contains("exit status: 3"),
            "{line}"
        );
    }

    #[test]
    fn the_end_of_a_log_is_shown_without_empty_lines() {
        assert_eq!(last_lines("a\n\nb\nc\n \n", 2), ["b", "c"]);
        assert_eq!(last_lines("", 2), Vec::<&str>::new());
    }

    #[test]
    fn what_succeeds_is_not_repeated() {
        let mut tries = 0;
        retry("counting", || {
            tries += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(tries, 1);
    }
}
