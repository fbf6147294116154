//! Runs the command of a suite: passes on what it says while it says it, counts what passed and failed, and ends it
//! when its time is over or Ctrl-C is pressed.

use std::{
    io::{BufRead as _, BufReader, Read},
    ops::AddAssign,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::shell::words;

/// Lines of output on their way to the terminal.
const LINES_WAITING: usize = 1024;
/// Time between two looks at the clock and at Ctrl-C.
const LOOK: Duration = Duration::from_millis(200);
/// Time for a command to clean up after SIGTERM.
const STOP_TIME: Duration = Duration::from_secs(10);

/// How many tests passed, failed and were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl Counts {
    /// One that passed.
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        ignored: 0,
    };
    /// One that failed.
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        ignored: 0,
    };

    /// Reads the closing line of a test program: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of_line(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("test result: ")?;
        let count = |word: &str| {
            let before = &rest[..rest.find(word)?];
            before.split_whitespace().next_back()?.parse().ok()
        };
        Some(Self {
            passed: count(" passed")?,
            failed: count(" failed")?,
            ignored: count(" ignored").unwrap_or_default(),
        })
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The sum of its closing lines.
    pub(crate) counts: Counts,
    /// Whether it ended with 0.
    pub(crate) succeeded: bool,
}

/// Runs commands until their deadline.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    stop: Arc<AtomicBool>,
}

impl Runner {
    /// Catches Ctrl-C from here on.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub(crate) fn new() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("catch Ctrl-C")?;
        }
        Ok(Self { stop })
    }

    /// Runs a command to its end. It is a process group of its own, so that nothing of it outlives its end.
    ///
    /// # Errors
    /// When it cannot be started, when the deadline passes, and on Ctrl-C.
    pub(crate) fn run(&self, command: &mut Command, deadline: Instant) -> Result<Ran> {
        let line = words(command);
        eprintln!("xtask: {line}");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().with_context(|| format!("start `{line}`"))?;
        let lines = lines_of(child.stdout.take().context("read its output")?);
        let followed = self.follow(&lines, deadline);
        match followed {
            Ok(counts) => {
                let status = child.wait().with_context(|| format!("wait for `{line}`"))?;
                Ok(Ran {
                    counts,
                    succeeded: status.success(),
                })
            }
            Err(error) => {
                end_group(&mut child).with_context(|| format!("end `{line}`"))?;
                Err(error.context(format!("run `{line}`")))
            }
        }
    }

    /// Passes on and counts until the output ends.
    fn follow(&self, lines: &Receiver<Vec<u8>>, deadline: Instant) -> Result<Counts> {
        let mut counts = Counts::default();
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line);
                    print!("{line}");
                    counts += Counts::of_line(&line).unwrap_or_default();
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(counts),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.stop.load(Ordering::Relaxed) {
                bail!("stopped by a signal");
            }
            if Instant::now() >= deadline {
                bail!("its time is over");
            }
        }
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The lines of a stream, read by a thread of their own, which ends with the stream.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(LINES_WAITING);
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(count) if count > 0 => {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    });
    receiver
}

/// SIGTERM for the group, a bounded wait, SIGKILL for what is left of it.
fn end_group(child: &mut Child) -> Result<()> {
    let id = i32::try_from(child.id()).context("read its process id")?;
    let group = Pid::from_raw(id).context("read its process id")?;
    // The group may be gone before each signal; then there is nothing to end.
    kill_process_group(group, Signal::TERM).ok();
    let deadline = Instant::now() + STOP_TIME;
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        thread::sleep(LOOK / 10);
    }
    kill_process_group(group, Signal::KILL).ok();
    child.wait()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(line: &str, counts: Option<(u64, u64, u64)>) {
        let counts = counts.map(|(passed, failed, ignored)| Counts {
            passed,
            failed,
            ignored,
        });
        assert_eq!(Counts::of_line(line), counts, "{line}");
    }

    #[test]
    fn the_closing_line_of_a_test_program_is_counted() {
        check_line(
            "test result: ok. 21 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out",
            Some((21, 0, 2)),
        );
        check_line(
            "test result: FAILED. 3 passed; 1 failed; 0 ignored\n",
            Some((3, 1, 0)),
        );
        check_line("test result: ok. 4 passed; 0 failed", Some((4, 0, 0)));
        check_line("test tests::a_test ... ok", None);
        check_line("the test result: 3 passed", None);
    }

    fn run(script: &str, limit: Duration) -> Result<Ran> {
        let runner = Runner {
            stop: Arc::new(AtomicBool::new(false)),
        };
        runner.run(Command::new("sh").args(["-c", script]), Instant::now() + limit)
    }

    #[test]
    fn several_closing_lines_are_summed_and_the_status_is_kept() {
        let script = "echo 'test result: ok. 2 passed; 0 failed'; echo 'test result: FAILED. 1 passed; 3 failed'; exit 1";
        let ran = run(script, Duration::from_secs(20)).unwrap();
        assert_eq!(
            ran.counts,
            Counts {
                passed: 3,
                failed: 3,
                ignored: 0
            }
        );
        assert!(!ran.succeeded);
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let error = run(&script, Duration::from_millis(300)).unwrap_err();
        assert!(format!("{error:#}").contains("its time is over"), "{error:#}");
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let is_gone = || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_gone() {
            assert!(Instant::now() < deadline, "process {pid} is still there");
            thread::sleep(LOOK / 10);
        }
    }
}
