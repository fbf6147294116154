//! The parts that run for us: started in order, watched while something is waited for, stopped in reverse order.

use std::{
    fs::{self, File},
    io::IsTerminal as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{duration::format_duration, shell::last_lines};

/// Time between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// Time for a part to end after SIGTERM; each promises 5 s.
const STOP_TIME: Duration = Duration::from_secs(10);

/// A running part.
struct Part {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// Why nothing is waited for any longer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Ctrl-C, SIGTERM or SIGHUP.
    StopAsked,
    /// The time of `--for` is over.
    TimeOver,
}

/// All running parts, in the order of their start.
pub(super) struct Parts {
    running: Vec<Part>,
    logs: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Parts {
    /// No part yet; `stop` is set by signals.
    pub(super) fn new(logs: &Path, stop: Arc<AtomicBool>) -> Result<Self> {
        fs::create_dir_all(logs).with_context(|| format!("create {}", logs.display()))?;
        Ok(Self {
            running: Vec::new(),
            logs: logs.to_owned(),
            stop,
        })
    }

    /// The folder of the logs, one file a part.
    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Name and log of each part.
    pub(super) fn log_files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.running.iter().map(|part| (part.name, part.log.as_path()))
    }

    /// Starts a part with its output in its log. It is a process group of its own: Ctrl-C in the terminal reaches
    /// us alone, and we stop it in its turn. Call it from the main thread: the parts ask to die with the thread
    /// that started them.
    pub(super) fn start(&mut self, name: &'static str, mut command: Command) -> Result<()> {
        let log = self.logs.join(name).with_extension("log");
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let copy = file.try_clone().context("share the log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start the {name}"))?;
        self.running.push(Part { name, child, log });
        Ok(())
    }

    /// Waits until `done`, and says so on a terminal.
    ///
    /// # Errors
    /// When a part ends, the time is over, or a stop is asked for.
    pub(super) fn wait(&mut self, what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
        if std::io::stderr().is_terminal() {
            eprintln!("waiting for {what}");
        }
        let mut ready = false;
        let event = self.watch(Some(Instant::now() + limit), || {
            ready = done();
            Ok(ready)
        })?;
        match event {
            None => Ok(()),
            Some(Event::StopAsked) => bail!("stopped while waiting for {what}"),
            Some(Event::TimeOver) => bail!(
                "waited {} for {what} in vain; the logs in {} may say why{}",
                format_duration(limit),
                self.logs.display(),
                self.last_words()
            ),
        }
    }

    /// Looks again and again until `done`, or until an event.
    ///
    /// # Errors
    /// When a part ends, which none does by itself; or from `done`.
    pub(super) fn watch(
        &mut self,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> Result<bool>,
    ) -> Result<Option<Event>> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Some(Event::StopAsked));
            }
            self.check_running()?;
            if done()? {
                return Ok(None);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Some(Event::TimeOver));
            }
            thread::sleep(LOOK);
        }
    }

    fn check_running(&mut self) -> Result<()> {
        for part in &mut self.running {
            if let Some(status) = part
                .child
                .try_wait()
                .with_context(|| format!("look after the {}", part.name))?
            {
                let said = match last_error(&part.log) {
                    // Who was killed had nothing to say about it.
                    said if said.contains("rror") => format!(": {said}"),
                    _ => String::new(),
                };
                bail!(
                    "the {} stopped by itself ({status}){said} (log: {})",
                    part.name,
                    part.log.display()
                );
            }
        }
        Ok(())
    }

    /// The last line of each log, for an error's end.
    fn last_words(&self) -> String {
        let words = self
            .running
            .iter()
            .map(|part| format!("; {}: {}", part.name, last_error(&part.log)));
        words.collect::<Vec<_>>().concat()
    }

    /// Stops all parts, the last started first.
    ///
    /// # Errors
    /// When a part did not end in time and was killed, or ended with an error. All are gone afterwards.
    pub(super) fn stop(mut self) -> Result<()> {
        let mut odd = Vec::new();
        while let Some(mut part) = self.running.pop() {
            match end(&mut part.child, STOP_TIME).with_context(|| format!("stop the {}", part.name))? {
                Ended::Before => {}
                Ended::By(status) if status.success() => {}
                Ended::By(status) => odd.push(format!("the {} ended with {status}", part.name)),
                Ended::Killed => {
                    odd.push(format!(
                        "the {} did not stop within {} s and was killed",
                        part.name,
                        STOP_TIME.as_secs()
                    ));
                }
            }
        }
        if odd.is_empty() {
            Ok(())
        } else {
            bail!("{}; logs: {}", odd.join("; "), self.logs.display())
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // After `stop` nothing is left; this is for the way out of a panic.
        for part in self.running.iter_mut().rev() {
            drop(part.child.kill());
            drop(part.child.wait());
        }
    }
}

/// How a child came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Before it was asked to.
    Before,
    /// Asked to, with this status.
    By(ExitStatus),
    /// It did not end in time.
    Killed,
}

/// SIGTERM, a bounded wait, SIGKILL.
pub(super) fn end(child: &mut Child, limit: Duration) -> Result<Ended> {
    if child.try_wait()?.is_some() {
        return Ok(Ended::Before);
    }
    if let Ok(id) = i32::try_from(child.id())
        && let Some(pid) = Pid::from_raw(id)
    {
        kill_process(pid, Signal::TERM)?;
    }
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::By(status));
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(Ended::Killed)
}

/// The line of a log that tells most: the last error, else the last line.
fn last_error(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let error = text
        .lines()
        .rev()
        .find(|line| line.contains("error: ") || line.contains("ERROR"));
    error
        .or_else(|| last_lines(&text, 1).first().copied())
        .unwrap_or("it said nothing")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn parts(dir: &Path) -> Parts {
        Parts::new(&dir.join("logs"), Arc::new(AtomicBool::new(false))).unwrap()
    }

    #[test]
    fn a_part_that_ends_by_itself_is_reported_with_its_last_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut parts = parts(dir.path());
        parts
            .start(
                "engine",
                shell("echo 'engine: error: no room' >&2; echo bye; exit 7"),
            )
            .unwrap();
        let line = parts
            .wait("nothing", Duration::from_secs(20), || false)
            .unwrap_err()
            .to_string();
        assert!(
            line.contains("the engine stopped by itself (exit status: 7): engine: error: no room"),
            "{line}"
        );
    }

    #[test]
    fn waiting_in_vain_ends_and_says_for_what() {
        let dir = tempfile::tempdir().unwrap();
        let line = parts(dir.path())
            .wait("a miracle", Duration::ZERO, || false)
            .unwrap_err()
            .to_string();
        assert!(line.contains("for a miracle in vain"), "{line}");
    }

    #[test]
    fn parts_are_stopped_in_reverse_order() {
        let dir = tempfile::tempdir().unwrap();
        let order = dir.path().join("order");
        let mut parts = parts(dir.path());
        for name in ["engine", "agent"] {
            let (order, log) = (
                order.display(),
                dir.path().join("logs").join(name).with_extension("log"),
            );
            let script =
                format!("trap 'echo {name} >> {order}; exit 0' TERM; echo up; while :; do sleep 0.01; done");
            parts.start(name, shell(&script)).unwrap();
            let up = || fs::read_to_string(&log).is_ok_and(|text| text.contains("up"));
            parts.wait("the trap", Duration::from_secs(20), up).unwrap();
        }
        parts.stop().unwrap();
        assert_eq!(fs::read_to_string(order).unwrap(), "agent\nengine\n");
    }

    #[test]
    fn what_does_not_stop_is_killed() {
        let mut child = shell("trap '' TERM; echo up; exec sleep 60")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 2];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        assert_eq!(end(&mut child, Duration::from_millis(50)).unwrap(), Ended::Killed);
    }
}
