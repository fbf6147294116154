//! `agent`: what the whole agent costs, beside pidstat and atop, over the same processes in the same seconds.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, setpriority_process};

use crate::{
    loads::own_program,
    report::{Verdict, float},
    sink,
    tasks::Tasks,
};

/// Processes that are there.
const SIZES: [usize; 3] = [100, 1_000, 4_000];
/// Of them, one in so many does a little ten times a second.
const ACTIVE: usize = 100;
/// Time to start and to learn what is there, which nobody is billed for.
const WARM_UP: Duration = Duration::from_secs(6);
/// Time that is measured.
const WINDOW: Duration = Duration::from_secs(20);
/// At most processes the agent may cost so much of the cheapest of the others.
const SHARE_MOST: f64 = 0.1;

/// The nice value of what is measured: the foremost.
const PRIORITY: i32 = -20;

/// A program under measurement.
struct Measured {
    name: &'static str,
    child: Child,
}

impl Measured {
    fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {name}: `cargo xtask bench agent` installs what it needs"))?;
        let measured = Self { name, child };
        // Before all else that runs here: a program that is kept waiting leaves intervals out, and seems cheap.
        let pid = Pid::from_child(&measured.child);
        setpriority_process(Some(pid), PRIORITY).context("give a program priority: benches need root")?;
        Ok(measured)
    }

    /// CPU time used until now.
    fn cpu(&mut self) -> Result<Duration> {
        let ended = self.child.try_wait().context("look at a program")?;
        ensure!(ended.is_none(), "{} ended by itself", self.name);
        cpu_time(self.child.id()).with_context(|| format!("read the clock of {}", self.name))
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // SAFETY: a plain system call; the child is not reaped yet, so the number is its own. It ends itself so.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        // Already gone, mostly.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Measures and prints.
///
/// # Errors
/// When a program does not start or ends by itself.
pub(crate) fn run() -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let collector = sink::start()?;
    println!(
        "CPU seconds a minute and resident memory at 1 s, all programs in the same {} s. Processes sleep, but for 1",
        WINDOW.as_secs()
    );
    println!("in {ACTIVE} that works 0.1 ms ten times a second; five more a second are started and end.\n");
    println!(
        "{:>9}  {:<34} {:>11} {:>9}",
        "processes", "program", "CPU s/min", "RSS MiB"
    );
    for size in SIZES {
        let tasks = Tasks::start(size, 1, size / ACTIVE)?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let mut programs = start_all(&format!("http://{collector}"), folder.path())?;
        thread::sleep(WARM_UP);
        let before = programs
            .iter_mut()
            .map(Measured::cpu)
            .collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        thread::sleep(WINDOW);
        let after = programs
            .iter_mut()
            .map(Measured::cpu)
            .collect::<Result<Vec<_>>>()?;
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        let mut costs = Vec::new();
        for ((program, before), after) in programs.iter().zip(before).zip(after) {
            let cost = after.saturating_sub(before).as_secs_f64() / minutes;
            let rss = rss_bytes(program.child.id())?;
            println!(
                "{size:>9}  {:<34} {cost:>11.2} {:>9.1}",
                program.name,
                float(rss >> 10) / 1024.0
            );
            costs.push(cost);
        }
        println!();
        drop(programs);
        drop(tasks);
        if let [run, _sample, peers @ ..] = costs.as_slice()
            && Some(&size) == SIZES.last()
        {
            let cheapest = peers.iter().copied().fold(f64::INFINITY, f64::min);
            let what = format!("the agent with {size} processes");
            println!(
                "{}",
                verdict.at_most(&what, run / cheapest, SHARE_MOST, "of the cheapest other")
            );
        }
    }
    Ok(verdict)
}

/// The agent first, as it is meant to run.
fn start_all(collector: &str, folder: &Path) -> Result<Vec<Measured>> {
    let agent = own_program()?.with_file_name("procscope-agent");
    let token = folder.join("token");
    fs::write(&token, "benchmark").context("write a token")?;
    fs::set_permissions(&token, Permissions::from_mode(0o600)).context("keep the token private")?;
    Ok(vec![
        Measured::start(
            "procscope-agent run",
            Command::new(&agent)
                .args(["run", "--interval", "1s", "--collector", collector, "--state-dir"])
                .arg(folder)
                .arg("--token-file")
                .arg(&token),
        )?,
        Measured::start(
            "procscope-agent sample (JSON)",
            Command::new(&agent).args(["sample", "--interval", "1s", "--count", "0"]),
        )?,
        Measured::start("pidstat -u -r 1", Command::new("pidstat").args(["-u", "-r", "1"]))?,
        Measured::start(
            "atop -w FILE 1",
            Command::new("atop")
                .arg("-w")
                .arg(folder.join("atop.raw"))
                .arg("1"),
        )?,
    ])
}

/// CPU time of a process by its own clock, exact to the nanosecond.
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut clock = 0;
    // SAFETY: valid for one value.
    let result = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    ensure!(result == 0, "process {pid} has no clock");
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: valid for one value.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(result == 0, "the clock of process {pid} does not tell");
    Ok(Duration::new(
        u64::try_from(time.tv_sec)?,
        u32::try_from(time.tv_nsec)?,
    ))
}

fn rss_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("read what a program holds")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("find its memory")?;
    let kib = line.split_whitespace().next().context("read its memory")?;
    Ok(kib.parse::<u64>().context("read its memory")? << 10)
}
