//! Processes and threads that are there, and mostly sleep: what a drain has to walk over.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::loads::own_program;

/// The word with which this program becomes the parent of such processes.
pub(crate) const TASKS: &str = "sleeping-tasks";

/// Stack of a thread that only sleeps.
const STACK_BYTES: usize = 16 << 10;
/// An active process sleeps so long, then works so long.
const PAUSE: Duration = Duration::from_millis(100);
const WORK: Duration = Duration::from_micros(100);
/// Where there are active processes, one process a `LIFE` is started and ends.
const LIFE: Duration = Duration::from_millis(200);

/// They end when this is dropped.
pub(crate) struct Tasks {
    parent: Child,
}

impl Tasks {
    /// Makes processes of so many threads each, and waits until all are there. Of the processes, so many do a little
    /// from time to time.
    ///
    /// # Errors
    /// When the machine does not give so many.
    pub(crate) fn start(processes: usize, threads: usize, active: usize) -> Result<Self> {
        let mut parent = Command::new(own_program()?)
            .args([
                TASKS,
                &processes.to_string(),
                &threads.to_string(),
                &active.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the parent of sleeping tasks")?;
        let said = parent.stdout.take().context("its output is piped")?;
        let tasks = Self { parent };
        let mut line = String::new();
        BufReader::new(said)
            .read_line(&mut line)
            .context("wait for sleeping tasks")?;
        ensure!(
            line == "ready\n",
            "this machine does not give {processes} processes of {threads} threads"
        );
        Ok(tasks)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Its children end with it; it was perhaps not able to start.
        drop(self.parent.kill());
        drop(self.parent.wait());
        thread::sleep(Duration::from_millis(500));
    }
}

/// Is the parent: makes the processes, says so, and stays until it is ended.
///
/// # Errors
/// When the machine does not give so many.
pub(crate) fn be_parent(processes: usize, threads: usize, active: usize) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (mut ready, mut to_parent) = io::pipe().context("make a pipe")?;
    for number in 0..processes {
        // SAFETY: this process has one thread, so the child may go on with anything.
        let pid = unsafe { libc::fork() };
        ensure!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            for _thread in 1..threads {
                thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn(|| {
                        loop {
                            thread::park();
                        }
                    })
                    .context("start a thread")?;
            }
            to_parent.write_all(b".").context("say that it is there")?;
            loop {
                if number < active {
                    work();
                } else {
                    thread::park();
                }
            }
        }
        // One after another, so that 4,000 of them do not fight for two CPUs.
        ready.read_exact(&mut [0]).context("wait for a process")?;
    }
    println!("ready");
    io::stdout().flush().context("say that all are there")?;
    loop {
        if active == 0 {
            thread::park();
        }
        thread::sleep(LIFE);
        Command::new("/bin/true").status().context("start /bin/true")?;
    }
}

fn work() {
    thread::sleep(PAUSE);
    let start = Instant::now();
    while start.elapsed() < WORK {
        std::hint::spin_loop();
    }
}
