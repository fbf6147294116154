//! What holds in every snapshot of every test, and the running sums of what they say.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use procscope_proto::v1;

use crate::{Watch, cpu_of_all_threads_ns, hidden_processes, or_guest};

/// What an interval may show beyond its length: the walk reaches a process a little after the instant that the
/// interval is measured to, and a tick may lie between what a task had used and what was accounted.
const SLACK_NS: u64 = 30_000_000;
/// The same where the host lends a guest its CPUs by turns.
const GUEST_SLACK_NS: u64 = 500_000_000;

/// Sums over all snapshots so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sums {
    /// Snapshots.
    pub intervals: u64,
    /// CPUs x time.
    pub wall_ns: u64,
    /// By processes.
    pub process_ns: u64,
    /// By kernel threads.
    pub kthread_ns: u64,
    /// Idle, waiting for a disk included.
    pub idle_ns: u64,
    /// Left over.
    pub residual_ns: i64,
    /// Events that never arrived.
    pub lost_events: u64,
    /// Counters that seemed to fall.
    pub torn_reads: u64,
    /// Processes whose end was told.
    pub exits: u64,
}

impl Sums {
    fn add(&mut self, snapshot: &v1::Snapshot, audit: &v1::HostAudit) {
        self.intervals += 1;
        self.wall_ns += audit.wall_ns;
        self.process_ns += audit.process_ns;
        self.kthread_ns += audit.kthread_ns;
        self.idle_ns += audit.idle_ns + audit.iowait_ns.unwrap_or(0);
        self.residual_ns += audit.residual_ns;
        self.lost_events += audit.lost_events;
        self.torn_reads += audit.torn_reads;
        self.exits += u64::try_from(snapshot.exits.len()).unwrap_or(0);
    }

    fn since(self, before: Self) -> Self {
        Self {
            intervals: self.intervals - before.intervals,
            wall_ns: self.wall_ns - before.wall_ns,
            process_ns: self.process_ns - before.process_ns,
            kthread_ns: self.kthread_ns - before.kthread_ns,
            idle_ns: self.idle_ns - before.idle_ns,
            residual_ns: self.residual_ns - before.residual_ns,
            lost_events: self.lost_events - before.lost_events,
            torn_reads: self.torn_reads - before.torn_reads,
            exits: self.exits - before.exits,
        }
    }
}

/// Holds each snapshot against the one before.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) sums: Sums,
    /// What each process that lives had used by its last sample.
    totals: HashMap<Vec<u8>, u64>,
}

impl Ledger {
    /// No use is absurd, nothing falls, and parts add up to their sums.
    pub(crate) fn check(&mut self, snapshot: &v1::Snapshot) -> Result<()> {
        let audit = snapshot.audit.as_ref().context("every snapshot has its audit")?;
        let drain_ns = snapshot.agent_cost.as_ref().map_or(0, |cost| cost.drain_ns);
        self.sums.add(snapshot, audit);
        let most = (snapshot.interval_ns + drain_ns + or_guest(SLACK_NS, GUEST_SLACK_NS))
            * u64::from(audit.cpus.max(1));
        // An end that was lost is told when the kernel has long freed the process: use of an earlier interval.
        let told_late = snapshot.losses.iter().any(|loss| loss.reason == "lost_end");
        let mut all = 0;
        for sample in &snapshot.samples {
            let delta = sample.cpu_time_ns_delta;
            ensure!(delta <= most, "more than {most} ns: {sample:?}");
            if !(told_late && sample.exited) {
                all += delta;
            }
            let before = self.totals.insert(sample.process_id.clone(), sample.cpu_time_ns);
            if let Some(before) = before {
                ensure!(
                    sample.cpu_time_ns == before + delta,
                    "the total was {before} ns: {sample:?}"
                );
            }
            ensure!(delta <= sample.cpu_time_ns, "more than the total: {sample:?}");
            if let (Some(user), Some(system)) = (sample.user_time_ns_delta, sample.system_time_ns_delta) {
                ensure!(user + system == delta, "parts that are not the sum: {sample:?}");
            }
            ensure!(
                sample.ended_threads_cpu_time_ns_delta <= Some(sample.cpu_time_ns),
                "{sample:?}"
            );
            if let (Some(rss), Some(peak)) = (sample.rss_bytes, sample.peak_rss_bytes) {
                ensure!(rss <= peak, "a peak below what is resident: {sample:?}");
            }
            if sample.exited {
                self.totals.remove(&sample.process_id);
            }
        }
        ensure!(all <= most, "all used {all} ns, more than {most} ns");
        Ok(())
    }
}

/// The wall's time is read before the walk, use during it: what a drain takes may be missing at the beginning of
/// the books, or too much at their end. So they begin and end with one that nothing came in between of.
const SHORT_DRAIN_NS: u64 = 2_000_000;
const GUEST_SHORT_DRAIN_NS: u64 = 100_000_000;
/// Intervals to wait for such a drain.
const DRAINS_MAX: u32 = 300;

impl Watch {
    /// Opens the books of the machine.
    ///
    /// # Errors
    /// As `tick`.
    pub fn open_books(&mut self) -> Result<Books> {
        self.short_drain()?;
        Books::open(self.sums(), self.snapshots.last().context("just pushed")?)
    }

    /// Closes them.
    ///
    /// # Errors
    /// As `tick`.
    pub fn close_books(&mut self, books: &Books) -> Result<Balance> {
        self.short_drain()?;
        Ok(books.close(self.sums()))
    }

    fn short_drain(&mut self) -> Result<()> {
        for _interval in 0..DRAINS_MAX {
            let snapshot = self.next_interval()?;
            let took_ns = snapshot.agent_cost.as_ref().map_or(0, |cost| cost.drain_ns);
            if took_ns < or_guest(SHORT_DRAIN_NS, GUEST_SHORT_DRAIN_NS) {
                return Ok(());
            }
        }
        bail!("each of {DRAINS_MAX} drains took longer than a moment")
    }
}

/// The books of the machine between two moments.
pub struct Books {
    before: Sums,
    hidden: Vec<u32>,
    hidden_before_ns: u64,
}

/// What they came to.
#[derive(Debug, Clone, Copy)]
pub struct Balance {
    /// Sums between the two moments.
    pub sums: Sums,
    /// By processes that the kernel hides from its programs and that are in no row: a part of the residual.
    pub hidden_ns: u64,
}

impl Books {
    /// Opens them after `snapshot`, which was made just now. A process that has a row there is counted, however
    /// the agent found it; only one that /proc shows and no row has is hidden.
    ///
    /// # Errors
    /// When /proc cannot be listed.
    pub fn open(sums: Sums, snapshot: &v1::Snapshot) -> Result<Self> {
        let hidden = hidden_processes(|pid| snapshot.samples.iter().any(|sample| sample.pid == pid))?;
        Ok(Self {
            before: sums,
            hidden_before_ns: cpu_of_all_threads_ns(&hidden),
            hidden,
        })
    }

    /// Closes them after a snapshot that was made just now.
    #[must_use]
    pub fn close(&self, sums: Sums) -> Balance {
        Balance {
            sums: sums.since(self.before),
            hidden_ns: cpu_of_all_threads_ns(&self.hidden).saturating_sub(self.hidden_before_ns),
        }
    }
}

impl Balance {
    /// The residual that hidden processes do not explain, in nanoseconds.
    #[must_use]
    pub fn unexplained_ns(&self) -> i64 {
        self.sums.residual_ns - self.hidden_ns.cast_signed()
    }

    /// The same in parts per million of CPUs x wall.
    #[must_use]
    pub fn unexplained_ppm(&self) -> u64 {
        let ppm = u128::from(self.unexplained_ns().unsigned_abs()) * 1_000_000
            / u128::from(self.sums.wall_ns.max(1));
        u64::try_from(ppm).unwrap_or(u64::MAX)
    }
}
