//! What the tests of the kernel side share: programs under watch, and what the kernel itself says of them.

pub mod group;
mod program;
pub mod report;
mod sums;

use std::{
    fs, io,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use procscope_agent::{
    observer::{Hooks, Observer, Settings, SourceChoice},
    scrub::Cmdline,
};
use procscope_proto::v1;

pub use program::{Program, children_cpu_ns};
pub use sums::{Balance, Books, Sums};

/// Measurements of one test must not be another's load.
static ALONE: Mutex<()> = Mutex::new(());

/// One of two values: for this machine, or for a guest in emulation (`cargo xtask test guests`). There instructions
/// take ten times as long and two guests share the host's CPUs, so fewer lives run, waits are longer, and what stands
/// for time is wider: docs/metrics.md has these bounds.
pub fn or_guest<T>(here: T, guest: T) -> T {
    if std::env::var_os("PROCSCOPE_GUEST").is_some() {
        guest
    } else {
        here
    }
}

/// How far a page counter may be from the truth, in bytes. Before Linux 6.2 each thread hands its pages over after 64
/// faults, and the process's counter lacks what it still holds; a fault maps one page of its own memory.
#[must_use]
pub fn counter_bound_bytes(threads: u64) -> u64 {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0_u32));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 2) { threads * 64 * 4096 } else { 0 }
}

/// Waits until no other test of this program runs.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The agent's own observer, and every snapshot it made. Each is held against the one before: no use that is
/// absurd, no total that falls.
pub struct Watch {
    observer: Observer,
    ledger: sums::Ledger,
    /// Only the newest snapshot is kept.
    pub forgets: bool,
    /// Oldest first.
    pub snapshots: Vec<v1::Snapshot>,
}

impl Watch {
    /// Attaches to the kernel.
    ///
    /// # Errors
    /// Without the privilege: the test fails, it does not skip.
    pub fn start() -> Result<Self> {
        Self::start_with(SourceChoice::Ebpf)
    }

    /// The same with figures from where one likes.
    ///
    /// # Errors
    /// Without the privilege.
    pub fn start_with(source: SourceChoice) -> Result<Self> {
        Self::with(|settings| settings.source = source)
    }

    /// The same with settings that one likes.
    ///
    /// # Errors
    /// Without the privilege.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let mut settings = Settings {
            host: "test".to_owned(),
            interval: Duration::from_millis(100),
            cmdline: Cmdline::Scrubbed,
            source: SourceChoice::Ebpf,
            runqueue_histogram: false,
            hooks: Hooks::Full,
            kernel_budget_ppm: 5_000,
        };
        change(&mut settings);
        take_turns(AGENT_NICE).context("have our turn on a busy machine: this needs root")?;
        let observer = Observer::start(settings).context(
            "attach to the kernel: these tests need root, or CAP_BPF and CAP_PERFMON, and kernel BTF",
        )?;
        Ok(Self {
            observer,
            ledger: sums::Ledger::default(),
            forgets: false,
            snapshots: Vec::new(),
        })
    }

    /// Ends the interval now.
    ///
    /// # Errors
    /// When the kernel side cannot be read, or the snapshot cannot be true.
    pub fn tick(&mut self) -> Result<&v1::Snapshot> {
        let snapshot = self.observer.snapshot()?;
        self.ledger.check(&snapshot)?;
        if self.forgets {
            self.snapshots.clear();
        }
        self.snapshots.push(snapshot);
        self.snapshots.last().context("just pushed")
    }

    /// Waits for the end of the interval, and ends it.
    ///
    /// # Errors
    /// As `tick`.
    pub fn next_interval(&mut self) -> Result<&v1::Snapshot> {
        self.observer.wait(&std::sync::atomic::AtomicBool::new(false));
        self.tick()
    }

    /// Sums over all intervals so far.
    #[must_use]
    pub fn sums(&self) -> Sums {
        self.ledger.sums
    }

    /// Ends an interval every 100 ms until something is so.
    ///
    /// # Errors
    /// When it is not so after `seconds`.
    pub fn until(&mut self, what: &str, seconds: u64, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let seconds = seconds * or_guest(1, 6);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while !is_so(self) {
            ensure!(Instant::now() < deadline, "{what}: not so after {seconds} s");
            self.next_interval()?;
        }
        Ok(())
    }

    /// The samples of a process, oldest first.
    #[must_use]
    pub fn samples(&self, pid: u32) -> Vec<&v1::ProcessSample> {
        self.snapshots
            .iter()
            .flat_map(|snapshot| &snapshot.samples)
            .filter(|sample| sample.pid == pid)
            .collect()
    }

    /// The newest sample of a process.
    ///
    /// # Errors
    /// When there is none.
    pub fn newest(&self, pid: u32) -> Result<&v1::ProcessSample> {
        self.samples(pid)
            .last()
            .copied()
            .with_context(|| format!("no sample of process {pid}"))
    }

    /// Every exit that was told.
    pub fn exits(&self) -> impl Iterator<Item = &v1::ProcessExit> {
        self.snapshots.iter().flat_map(|snapshot| &snapshot.exits)
    }

    /// The exits of a process, of its children and of theirs.
    pub fn family(&self, pid: u32) -> impl Iterator<Item = &v1::ProcessExit> {
        let mut family = vec![pid];
        // Children are told before their parents here, so each generation takes one pass.
        for _generation in 0..3 {
            let children = self.exits().filter(|exit| family.contains(&exit.parent_pid));
            let children: Vec<u32> = children.map(|exit| exit.pid).collect();
            family.extend(children);
            family.sort_unstable();
            family.dedup();
        }
        self.exits().filter(move |exit| family.contains(&exit.pid))
    }

    /// Waits for the exit of a process, for as long as it runs.
    ///
    /// # Errors
    /// When it is not told 10 s after its end, or does not end in two minutes.
    pub fn exit_of(&mut self, pid: u32) -> Result<v1::ProcessExit> {
        let told = |watch: &Self| watch.exits().any(|exit| exit.pid == pid);
        self.until(&format!("process {pid} ends"), 120, |watch| {
            told(watch) || has_ended(pid)
        })?;
        self.until(&format!("the exit of {pid} is told"), 10, told)?;
        self.exits()
            .find(|exit| exit.pid == pid)
            .cloned()
            .context("just seen")
    }

    /// Losses of every interval so far, of one reason.
    #[must_use]
    pub fn losses(&self, reason: &str) -> u64 {
        self.snapshots
            .iter()
            .flat_map(|snapshot| &snapshot.losses)
            .filter(|loss| loss.reason == reason)
            .map(|loss| loss.count)
            .sum()
    }
}

/// The agent has its turn on a busy machine: its unit gives it more weight than others have.
const AGENT_NICE: i32 = -10;

/// Makes this thread, and what it starts, as nice as that.
fn take_turns(nice: i32) -> io::Result<()> {
    // SAFETY: a plain system call; on Linux it is about the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a process has used until now by its own clock (`clock_getcpuclockid`), which is exact to the nanosecond.
///
/// # Errors
/// When it is gone.
pub fn process_clock_ns(pid: u32) -> Result<u64> {
    procscope_agent::clock::process_ns(pid).with_context(|| format!("no clock of process {pid}"))
}

/// A process is gone, or a zombie: its state follows its name, which may hold anything.
fn has_ended(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        let name_end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
        matches!(stat.get(name_end + 2), Some(b'Z' | b'X'))
    })
}

/// A value in kB of /proc/PID/status, in bytes.
///
/// # Errors
/// When the process is gone or has no such line.
pub fn status_bytes(pid: u32, key: &str) -> Result<u64> {
    Ok(proc_number(pid, "status", key)? * 1024)
}

/// The first number of a line `key: number …` of a file of /proc/PID.
///
/// # Errors
/// When the process is gone or has no such line.
pub fn proc_number(pid: u32, file: &str, key: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .with_context(|| format!("no {key}"))?;
    let number = rest.split_whitespace().next().context("no number")?;
    number.parse().with_context(|| format!("read {number} of {key}"))
}

/// How far a peak may be under the true one, in bytes: the formula of docs/metrics.md.
///
/// # Errors
/// When the number of CPUs is not known.
pub fn peak_bound_bytes() -> Result<u64> {
    let cpus = u64::try_from(thread::available_parallelism()?.get())?;
    let page = u64::try_from(rustix::param::page_size())?;
    Ok(3 * cpus * (2 * cpus).max(32) * page)
}

/// `a` differs from `b` by at most so many thousandths of `b`.
///
/// # Errors
/// Names both.
pub fn within(what: &str, a: u64, b: u64, thousandths: u64) -> Result<()> {
    let bound = u64::try_from(u128::from(b) * u128::from(thousandths) / 1000)?;
    ensure!(
        a.abs_diff(b) <= bound,
        "{what}: {a} differs from {b} by {}, more than {thousandths} thousandths",
        a.abs_diff(b)
    );
    Ok(())
}

/// Waits until something is so.
///
/// # Errors
/// When it is not so in time.
pub fn wait_until(what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let seconds = seconds * or_guest(1, 6);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        ensure!(Instant::now() < deadline, "{what}: not so after {seconds} s");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Processes that /proc shows and the kernel's programs do not: some sandboxes keep their own from them. What they
/// use is in no row, and so in the residual. `is_known`: whether a process is in a snapshot made just now.
///
/// # Errors
/// When /proc cannot be listed.
pub fn hidden_processes(is_known: impl Fn(u32) -> bool) -> Result<Vec<u32>> {
    let mut hidden = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // What has just begun is in the next snapshot, or ends before it.
        let old = fs::metadata(format!("/proc/{pid}"))
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|begun| begun.elapsed().is_ok_and(|age| age > Duration::from_secs(10)));
        if old && !is_known(pid) {
            hidden.push(pid);
        }
    }
    Ok(hidden)
}

/// What processes have used by /proc/PID/task/TID/schedstat, exact to the nanosecond.
#[must_use]
pub fn cpu_of_all_threads_ns(processes: &[u32]) -> u64 {
    let threads = processes
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}
