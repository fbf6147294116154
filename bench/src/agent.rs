//! `agent`: what the whole agent costs, beside pidstat and atop, over the same processes in the same seconds.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, setpriority_process};

use crate::{
    loads::own_program,
    report::{Verdict, float},
    sink::Sink,
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
/// With most processes the agent may cost so much of the cheapest of the others.
const SHARE_MOST: f64 = 0.1;

/// The nice value of what is measured: the foremost.
const PRIORITY: i32 = -20;

/// A program under measurement.
struct Measured {
    name: &'static str,
    child: Child,
    /// Intervals that it has told of.
    intervals: Arc<AtomicU64>,
}

/// CPU time and intervals until now.
struct Reading {
    cpu: Duration,
    intervals: u64,
}

impl Measured {
    /// Starts one that writes a line with `mark` once an interval.
    fn start(name: &'static str, command: &mut Command, mark: &'static str) -> Result<Self> {
        let mut measured = Self::start_silent(name, command.stdout(Stdio::piped()), Arc::default())?;
        let said = measured.child.stdout.take().context("its output is piped")?;
        let intervals = Arc::clone(&measured.intervals);
        thread::spawn(move || {
            for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
                if line.windows(mark.len()).any(|part| part == mark.as_bytes()) {
                    intervals.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(measured)
    }

    /// Starts one of whose intervals somebody else tells.
    fn start_silent(name: &'static str, command: &mut Command, intervals: Arc<AtomicU64>) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {name}: `cargo xtask bench agent` installs what it needs"))?;
        let measured = Self {
            name,
            child,
            intervals,
        };
        // Before all else that runs here: a program that is kept waiting leaves intervals out.
        let pid = Pid::from_child(&measured.child);
        setpriority_process(Some(pid), PRIORITY).context("give a program priority: benches need root")?;
        Ok(measured)
    }

    /// What it has used and told until now.
    fn read(&mut self) -> Result<Reading> {
        let ended = self.child.try_wait().context("look at a program")?;
        ensure!(ended.is_none(), "{} ended by itself", self.name);
        let cpu = cpu_time(self.child.id()).with_context(|| format!("read the clock of {}", self.name))?;
        Ok(Reading {
            cpu,
            intervals: self.intervals.load(Ordering::Relaxed),
        })
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
    let collector = Sink::start()?;
    println!(
        "CPU time of an interval of 1 s, times 60, and resident memory; all programs in the same {} s.",
        WINDOW.as_secs()
    );
    println!(
        "Processes sleep, but for 1 in {ACTIVE} that works 0.1 ms ten times a second; five more a second are"
    );
    println!("started and end.\n");
    println!(
        "{:>9}  {:<30} {:>11} {:>9} {:>10}",
        "processes", "program", "CPU s/min", "RSS MiB", "intervals"
    );
    for size in SIZES {
        let tasks = Tasks::start(size, 1, size / ACTIVE)?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let mut programs = start_all(&collector, folder.path())?;
        thread::sleep(WARM_UP);
        let before = programs
            .iter_mut()
            .map(Measured::read)
            .collect::<Result<Vec<_>>>()?;
        thread::sleep(WINDOW);
        let after = programs
            .iter_mut()
            .map(Measured::read)
            .collect::<Result<Vec<_>>>()?;
        let mut costs = Vec::new();
        for ((program, before), after) in programs.iter().zip(before).zip(after) {
            let intervals = after.intervals - before.intervals;
            let used = after.cpu.saturating_sub(before.cpu);
            let cost = 60.0 * used.as_secs_f64() / float(intervals);
            let rss = float(rss_bytes(program.child.id())? >> 10) / 1024.0;
            println!(
                "{size:>9}  {:<30} {cost:>11.2} {rss:>9.1} {intervals:>10}",
                program.name
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
fn start_all(sink: &Sink, folder: &Path) -> Result<Vec<Measured>> {
    let agent = own_program()?.with_file_name("procscope-agent");
    let token = folder.join("token");
    fs::write(&token, "benchmark").context("write a token")?;
    fs::set_permissions(&token, Permissions::from_mode(0o600)).context("keep the token private")?;
    let mut run = Command::new(&agent);
    run.args(["run", "--interval", "1s", "--collector", &sink.url, "--state-dir"])
        .arg(folder)
        .arg("--token-file")
        .arg(&token)
        .stdout(Stdio::null());
    Ok(vec![
        Measured::start_silent("procscope-agent run", &mut run, Arc::clone(&sink.snapshots))?,
        Measured::start(
            "procscope-agent sample (JSON)",
            Command::new(&agent).args(["sample", "--interval", "1s", "--count", "0"]),
            "\"audit\":{",
        )?,
        // In one table, so that an interval has one heading.
        Measured::start(
            "pidstat -u -r -h 1",
            Command::new("pidstat").args(["-u", "-r", "-h", "1"]),
            "UID",
        )?,
        Measured::start("atop 1", Command::new("atop").arg("1"), "ATOP - ")?,
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
