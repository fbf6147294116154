//! A program under test: started, heard, told to go on, and waited for with what it used.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::take_turns;

/// A program under test, with its standard input and output.
pub struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Program {
    /// Starts `binary` with arguments divided by blanks.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(binary: &str, arguments: &str) -> Result<Self> {
        Self::spawn(Command::new(binary).args(arguments.split(' ')))
    }

    /// Starts a command.
    ///
    /// # Errors
    /// When it does not start.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        // SAFETY: a plain system call between fork and exec.
        let command = unsafe { command.pre_exec(|| take_turns(0)) };
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let out = BufReader::new(child.stdout.take().context("its output is piped")?);
        Ok(Self { child, out })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for a line `key value`.
    ///
    /// # Errors
    /// When something else comes.
    pub fn hear(&mut self, key: &str) -> Result<u64> {
        let mut line = String::new();
        self.out
            .read_line(&mut line)
            .context("read what the program says")?;
        let Some((said, value)) = line.trim().split_once(' ') else {
            bail!("expected `{key}`, heard `{line}`")
        };
        ensure!(said == key, "expected `{key}`, heard `{line}`");
        value.parse().with_context(|| format!("read `{line}`"))
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn go_on(&mut self) -> Result<()> {
        writeln!(self.child.stdin.as_mut().context("its input is piped")?).context("let the program go on")
    }

    /// Ends it with a signal.
    pub fn kill(&self, signal: i32) {
        // SAFETY: a plain system call; the child is not reaped yet, so the number is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Waits for its end, as wait4(2) tells it: status, and the CPU time that it and its children used.
    ///
    /// # Errors
    /// When there is nothing to wait for.
    pub fn wait4(self) -> Result<(i32, u64)> {
        let (status, usage) = self.usage()?;
        Ok((status, cpu_ns(&usage)))
    }

    /// Waits for its end, as `wait4`: the greatest resident set, in bytes.
    ///
    /// # Errors
    /// When there is nothing to wait for.
    pub fn max_rss_bytes(self) -> Result<u64> {
        Ok(u64::try_from(self.usage()?.1.ru_maxrss)? * 1024)
    }

    fn usage(mut self) -> Result<(i32, libc::rusage)> {
        drop(self.child.stdin.take());
        let mut status = 0;
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both pointers are valid for one value each.
        let pid = unsafe {
            libc::wait4(
                self.child.id().cast_signed(),
                &raw mut status,
                0,
                usage.as_mut_ptr(),
            )
        };
        ensure!(pid > 0, "wait4: {}", io::Error::last_os_error());
        // SAFETY: all bits zero is a value, and wait4 has filled it.
        Ok((status, unsafe { usage.assume_init() }))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already ended, mostly.
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn cpu_ns(usage: &libc::rusage) -> u64 {
    let ns = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_usec).unwrap_or(0) * 1_000
    };
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// What children used that this process has waited for: `getrusage(RUSAGE_CHILDREN)`.
///
/// # Errors
/// When the kernel does not say.
pub fn children_cpu_ns() -> Result<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: valid for one value.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    ensure!(result == 0, "getrusage: {}", io::Error::last_os_error());
    // SAFETY: all bits zero is a value, and getrusage has filled it.
    Ok(cpu_ns(&unsafe { usage.assume_init() }))
}
