//! Loads that make one kind of event, all on one CPU.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    mm::{Advice, MapFlags, ProtFlags},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// The word with which this program becomes the other end of a pipe.
pub(crate) const ECHO: &str = "echo-bytes";

/// Bytes touched at a time.
const TOUCHED_BYTES: usize = 32 << 20;
/// A page.
const PAGE: usize = 4096;

/// Stays on one CPU from here on, with all children, before everything else there; says which.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn pin() -> Result<usize> {
    let may = sched_getaffinity(None).context("ask for our CPUs")?;
    // The first CPU has most interrupts.
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| may.is_set(*cpu));
    let last = last.context("find a CPU")?;
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one).context("stay on one CPU")?;
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel reads one value. Refused in some sandboxes: figures are then only more disturbed.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) } != 0 {
        println!(
            "No priority over other processes here: {}.",
            std::io::Error::last_os_error()
        );
    }
    Ok(last)
}

/// Another process on the same CPU that sends every byte back: two switches a round.
pub(crate) struct PingPong {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl PingPong {
    /// Starts the other process.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new(own_program()?)
            .arg(ECHO)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the other end of the pipe")?;
        let to = child.stdin.take().context("its input is piped")?;
        let from = child.stdout.take().context("its output is piped")?;
        Ok(Self { child, to, from })
    }

    /// Plays so many rounds and says how long they took.
    ///
    /// # Errors
    /// When the other process is gone.
    pub(crate) fn play(&mut self, rounds: u64) -> Result<Duration> {
        let mut byte = [1];
        let start = Instant::now();
        for _round in 0..rounds {
            self.to.write_all(&byte).context("write into the pipe")?;
            self.from.read_exact(&mut byte).context("read from the pipe")?;
        }
        Ok(start.elapsed())
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        // Already gone, perhaps.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The other end: sends every byte back until there are no more.
///
/// # Errors
/// When the pipe breaks.
pub(crate) fn echo() -> Result<()> {
    let mut byte = [0];
    while rustix::io::read(rustix::stdio::stdin(), &mut byte)? == 1 {
        rustix::io::write(rustix::stdio::stdout(), &byte)?;
    }
    Ok(())
}

/// Maps memory, touches each page of it, gives it back.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn fault_pages(times: u32) -> Result<()> {
    for _time in 0..times {
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else uses it.
        let memory = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                TOUCHED_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .context("map memory")?;
        // SAFETY: advice about our own mapping. Refused where there are no huge pages, and then not needed.
        _ = unsafe { rustix::mm::madvise(memory, TOUCHED_BYTES, Advice::LinuxNoHugepage) };
        for offset in (0..TOUCHED_BYTES).step_by(PAGE) {
            // SAFETY: within the mapping.
            let page = unsafe { memory.cast::<u8>().add(offset) };
            // SAFETY: as above; nobody else has it.
            unsafe { page.write_volatile(1) };
        }
        // SAFETY: our own mapping, used by nobody after this.
        unsafe { rustix::mm::munmap(memory, TOUCHED_BYTES) }.context("unmap memory")?;
    }
    Ok(())
}

/// Processes that are made, become another program, and end, one after another.
///
/// # Errors
/// When one does not start.
pub(crate) fn storm(processes: u32) -> Result<()> {
    for _process in 0..processes {
        let status = Command::new("/bin/true").status().context("start /bin/true")?;
        ensure!(status.success(), "/bin/true: {status}");
    }
    // The kernel frees them a grace period later.
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

/// Short sleeps: the CPU idles and wakes up.
pub(crate) fn sleep_often(times: u32) {
    for _time in 0..times {
        thread::sleep(Duration::from_micros(50));
    }
}

/// The file of this program.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("find this program's own file")
}
