//! What a person sees while everything runs: a table, the live top, or log lines.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::parts::{Parts, end};
use crate::{clock::unix_seconds, shell::words};

/// Time for the live top to give the terminal back.
const TOP_STOP_TIME: Duration = Duration::from_secs(3);

/// The question that our own client asks: what used most since we started?
pub(super) struct Question {
    client: PathBuf,
    server: String,
    since: String,
}

impl Question {
    /// About what is measured from now on; a data folder may hold older runs.
    pub(super) fn since_now(client: PathBuf, server: String) -> Self {
        let since = unix_seconds().to_string();
        Self {
            client,
            server,
            since,
        }
    }

    fn ask(&self) -> Command {
        let mut top = Command::new(&self.client);
        top.args(["top", "--server", &self.server]).stdin(Stdio::null());
        top
    }

    /// A question that a person may ask from another terminal, as it is typed there.
    pub(super) fn example(&self) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        let client = self.client.strip_prefix(here).unwrap_or(&self.client);
        let mut top = Command::new(client);
        top.arg("top").arg("--once").args(["--server", &self.server]);
        words(&top)
    }

    /// Seconds that the answer from the store covers; 0 as long as there is none.
    pub(super) fn observed_seconds(&self) -> f64 {
        let mut top = self.ask();
        top.args(["--once", "--json", "--since", &self.since]);
        top.output()
            .map_or(0.0, |output| observed_seconds(&output.stdout))
    }

    /// Prints the table over the last intervals.
    pub(super) fn print_table(&self, intervals: u32, json: bool) -> Result<()> {
        let mut top = self.ask();
        top.args(["--once", "--intervals", &intervals.to_string()])
            .args(json.then_some("--json"));
        let status = top.status().with_context(|| format!("start `{}`", words(&top)))?;
        ensure!(status.success(), "`{}` failed ({status})", words(&top));
        Ok(())
    }

    /// Hands the terminal to the live top until it or the time ends.
    pub(super) fn live(&self, parts: &mut Parts, deadline: Option<Instant>) -> Result<()> {
        let mut top = self.ask();
        let mut child = top
            .stdin(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start `{}`", words(&top)))?;
        let mut status = None;
        let watched = parts.watch(deadline, || {
            status = child.try_wait().context("look after the live top")?;
            Ok(status.is_some())
        });
        end(&mut child, TOP_STOP_TIME).context("stop the live top")?;
        watched?;
        ensure!(
            status.is_none_or(|status| status.success()),
            "the live top failed"
        );
        Ok(())
    }
}

/// Reads the answer of `top --json`: a part of it that is not there means that there is no answer yet.
fn observed_seconds(json: &[u8]) -> f64 {
    let answer: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let rows = answer["processes"].as_array().map_or(0, Vec::len);
    if rows == 0 {
        0.0
    } else {
        answer["coverage"]["observed_host_seconds"]
            .as_f64()
            .unwrap_or(0.0)
    }
}

/// Prints what the parts log, until a signal or the deadline.
pub(super) fn logs(parts: &mut Parts, deadline: Option<Instant>) -> Result<()> {
    let files: Vec<(&str, PathBuf)> = parts
        .log_files()
        .map(|(name, log)| (name, log.to_owned()))
        .collect();
    let mut read = BTreeMap::new();
    let mut out = std::io::stdout();
    parts.watch(deadline, || {
        for (name, log) in &files {
            let from = read.entry(*name).or_insert(0);
            let (lines, to) = new_lines(log, *from)?;
            *from = to;
            for line in lines.lines() {
                match writeln!(out, "{name:<9} | {line}") {
                    // Whoever read our output has gone: that is a wish to stop.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(true),
                    other => other.context("print a log line")?,
                }
            }
        }
        Ok(false)
    })?;
    Ok(())
}

/// Complete lines of a log from a place on, and the place behind them.
fn new_lines(log: &Path, from: u64) -> Result<(String, u64)> {
    let mut bytes = Vec::new();
    let mut file = File::open(log).with_context(|| format!("open {}", log.display()))?;
    file.seek(SeekFrom::Start(from))
        .with_context(|| format!("read {}", log.display()))?;
    file.read_to_end(&mut bytes)
        .with_context(|| format!("read {}", log.display()))?;
    let complete = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1);
    bytes.truncate(complete);
    Ok((
        String::from_utf8_lossy(&bytes).into_owned(),
        from + u64::try_from(complete)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_it_has_rows() {
        let check = |json: &str, seconds: f64| {
            assert!(
                (observed_seconds(json.as_bytes()) - seconds).abs() < 1e-9,
                "{json}"
            );
        };
        check("", 0.0);
        check("no JSON", 0.0);
        check(
            r#"{"coverage":{"observed_host_seconds":3.0},"processes":[]}"#,
            0.0,
        );
        check(
            r#"{"coverage":{"observed_host_seconds":3.0},"processes":[{"name":"a"}]}"#,
            3.0,
        );
    }

    #[test]
    fn a_log_is_read_on_from_its_last_complete_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "one\ntw").unwrap();
        assert_eq!(new_lines(&log, 0).unwrap(), ("one\n".to_owned(), 4));
        std::fs::write(&log, "one\ntwo\n").unwrap();
        assert_eq!(new_lines(&log, 4).unwrap(), ("two\n".to_owned(), 8));
        assert_eq!(new_lines(&log, 8).unwrap(), (String::new(), 8));
    }
}
