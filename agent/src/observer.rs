//! One interval after another: waits, drains, folds, and makes a snapshot.

mod books;
mod readings;
mod settings;

use std::{
    collections::HashMap,
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use procscope_agent_common::{DropReason, OverflowSlot};
use procscope_proto::v1;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    audit::{AuditReading, audit},
    clock,
    cost::{Budget, Constants, Costs, cost},
    drain::{Drain, DrainError, Event, WaitsByProcess},
    fold::{Fold, Place},
    host,
    identity::Identities,
    probes::{self, ProbeError, TimeAccounting},
    procfs::ProcUnits,
    rows::{Frozen, Rows},
    sample::{self, Instant, Teller, Told, Units},
};
use books::{losses, used};
use readings::{attach, preemptions, read_audit, sample_proc, trim_memory, visit_every_cpu};
pub use settings::{Hooks, Settings, SourceChoice};

/// The ring buffer is emptied at least this often, also when an interval is longer.
const EVENTS_EVERY: Duration = Duration::from_millis(100);

/// An interval ends early when so many processes have ended in it: what is kept of them has a bound.
const EXITS_WAITING_MAX: u64 = 4_096;

/// The books are of one instant, tasks are read one after the other. What runs while the reader has lost its CPU in
/// between is used after that instant, so a walk that it happened to is walked again, a few times …
const WALKS_MAX: u32 = 3;
/// … unless it was this short all the same.
const SHORT_WALK_NS: u64 = 1_000_000;

/// An interval with so many exits takes memory that later ones do not need.
const EXITS_MANY: usize = 1_024;

/// Between the slot of a thread that ends and its event lie some nanoseconds.
const AFTER_SLOT: Duration = Duration::from_micros(200);

/// Why observing does not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The kernel programs do not run.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The kernel side could not be read.
    #[error(transparent)]
    Drain(#[from] DrainError),
    /// Events would come from every process of the machine, the walk would find those of one container.
    #[error("this is pid namespace {0}, not the host's: start the container with hostPID (--pid=host)")]
    PidNamespace(String),
    /// The kernel's programs tell times by its own clock, this process reads another.
    #[error(
        "the clocks of this time namespace are shifted ({0}): start the agent in the host's (not under unshare --time)"
    )]
    TimeNamespace(String),
    /// What was told does not read as what it is: a bug of ours.
    #[error("the rows of an interval cannot be read")]
    Rows(#[from] prost::DecodeError),
    /// The machine does not say something about itself.
    #[error("could not read {what}")]
    Host {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Watches this machine.
pub struct Observer {
    settings: Settings,
    /// `None`: nothing runs in the kernel, /proc is sampled.
    drain: Option<Drain>,
    fold: Fold,
    identities: Identities,
    rows: Rows,
    boot_id: [u8; 16],
    kernel: (String, String),
    units: Units,
    proc_units: ProcUnits,
    before: AuditReading,
    drops_before: [u64; DropReason::ALL.len()],
    events: u64,
    hidden: Vec<u32>,
    next_drain_ns: u64,
    /// The hot programs are detached.
    quiet: bool,
    /// The memory of a storm has not been given back.
    swollen: bool,
    budget: Budget,
    costs_before: Costs,
    overflow_before: HashMap<u64, OverflowSlot>,
}

impl Observer {
    /// Attaches the kernel programs and takes note of what is there already.
    ///
    /// # Errors
    /// When the kernel refuses, or the machine does not say what it is.
    pub fn start(settings: Settings) -> Result<Self, ObserveError> {
        let host = |what| move |source| ObserveError::Host { what, source };
        let boot_id = host::boot_id().map_err(host("the boot id"))?;
        let (release, machine, _node) = host::uname();
        let attached_boottime_ns = clock::boottime_ns();
        let mut drain = match settings.source {
            SourceChoice::Proc => None,
            SourceChoice::Ebpf => Some(attach(settings.runqueue_histogram)?),
            SourceChoice::Auto => match attach(settings.runqueue_histogram) {
                Ok(drain) => Some(drain),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "no programs in the kernel: /proc is sampled, and what lives between two samples is missing"
                    );
                    None
                }
            },
        };
        trim_memory();
        let page_size = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let proc_units = ProcUnits {
            tick_ns: 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1),
            page_size,
        };
        let counts = drain.as_ref().map(Drain::counts);
        let units = Units {
            page_size,
            counts_io: counts.is_some_and(|counts| counts.io),
            counts_disk_io: counts.is_some_and(|counts| counts.disk_io),
        };
        let mut fold = Fold::new(attached_boottime_ns);
        let shown_by_proc = host::processes();
        fold.begin_walk();
        let mut hidden = Vec::new();
        if let Some(drain) = &mut drain {
            drain.has_switched(visit_every_cpu());
            // Events from here on belong to what the first walk finds; those before it are its past.
            drain.events(|_event| {});
            drain.walk(|found, _peak| fold.found(found, 0))?;
            let still_there = host::processes();
            hidden = shown_by_proc;
            hidden.retain(|pid| still_there.contains(pid) && !fold.knows(*pid));
            if !hidden.is_empty()
                && let Err(error) = drain.watch_idle_loop()
            {
                tracing::warn!(%error, "idle time will be too low: this kernel hides some switches");
            }
            sample_proc(&mut fold, &hidden, proc_units);
        } else {
            sample_proc(&mut fold, &shown_by_proc, proc_units);
        }
        if let Some(drain) = &mut drain {
            // The past.
            drain.take_waits();
        }
        fold.finish(clock::boottime_ns(), |_tid, _start| None, |_row| Place::default());
        let quiet = settings.hooks == Hooks::Quiet && drain.is_some();
        if let Some(drain) = drain.as_mut().filter(|_drain| quiet) {
            drain.go_quiet()?;
            fold.go_quiet();
        }
        let before = read_audit(drain.as_ref())?;
        let costs_before = drain
            .as_ref()
            .map(|drain| drain.costs().collect())
            .unwrap_or_default();
        let budget = Budget::new(settings.kernel_budget_ppm);
        let interval_ns = u64::try_from(settings.interval.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self {
            identities: Identities::new(
                PathBuf::from("/proc"),
                boot_id,
                probes::legacy_controller(Path::new("/sys/fs/cgroup")),
                settings.cmdline,
            ),
            rows: Rows::default(),
            drops_before: drain.as_ref().map(Drain::drops).transpose()?.unwrap_or_default(),
            settings,
            drain,
            fold,
            boot_id,
            kernel: (release, machine),
            units,
            proc_units,
            before,
            events: 0,
            hidden,
            next_drain_ns: clock::monotonic_ns().saturating_add(interval_ns),
            quiet,
            swollen: false,
            budget,
            costs_before,
            overflow_before: HashMap::new(),
        })
    }

    /// Where figures come from now.
    #[must_use]
    pub fn source(&self) -> v1::Source {
        match (&self.drain, self.quiet) {
            (Some(_), false) => v1::Source::Ebpf,
            (Some(_), true) => v1::Source::EbpfQuiet,
            (None, _) => v1::Source::Proc,
        }
    }

    /// What the kernel's side cost since it was last asked, and what that leads to.
    fn kernel_cost(&mut self, wall_ns: u64, interval_ns: u64) -> Result<v1::AgentCost, ObserveError> {
        let Some(drain) = &self.drain else {
            return Ok(v1::AgentCost::default());
        };
        let costs: Costs = drain.costs().collect();
        let constants = Constants {
            clock_ns: drain.clock_ns(),
            attach_ns: drain.attach_ns(),
        };
        let (programs, kernel_ppm) = cost(&self.costs_before, &costs, constants, wall_ns);
        self.costs_before = costs;
        self.keep_budget(kernel_ppm, interval_ns)?;
        Ok(v1::AgentCost {
            programs,
            attach_ns: constants.attach_ns,
            kernel_ppm: Some(kernel_ppm),
            kernel_budget_ppm: Some(self.budget.ppm),
            ..v1::AgentCost::default()
        })
    }

    /// Detaches the programs on hot paths when they have cost too much for too long.
    fn keep_budget(&mut self, spent_ppm: u64, interval_ns: u64) -> Result<(), ObserveError> {
        let passed = self.budget.is_passed(spent_ppm, interval_ns);
        let Some(drain) = &mut self.drain else {
            return Ok(());
        };
        if !passed || self.quiet || self.settings.hooks != Hooks::Auto {
            return Ok(());
        }
        drain.go_quiet()?;
        self.fold.go_quiet();
        self.quiet = true;
        tracing::warn!(
            spent_ppm,
            budget_ppm = self.budget.ppm,
            "the programs on hot paths cost more than their budget and are detached: CPU time stays exact, memory \
             peaks are as the kernel notes them; start the agent again to have them back"
        );
        Ok(())
    }

    /// What was used by threads that ended in this interval and that no row can tell apart, by control group.
    fn overflow(&mut self) -> Result<Vec<v1::ProcessSample>, ObserveError> {
        let Some(drain) = &self.drain else {
            return Ok(Vec::new());
        };
        let mut rows = Vec::new();
        for (group, sums) in drain.overflow()? {
            let before = self.overflow_before.insert(group, sums).unwrap_or_default();
            if before.threads < sums.threads {
                let path = self.identities.cgroup_of(group);
                rows.push(sample::lost_ends(self.boot_id, group, path, before, sums));
            }
        }
        Ok(rows)
    }

    /// Processes that /proc showed at start and the kernel's programs did not: some sandboxes keep their own from
    /// them. They are sampled from /proc, and their rows say so.
    #[must_use]
    pub fn hidden_processes(&self) -> &[u32] {
        &self.hidden
    }

    /// Waits for the end of the interval, emptying the ring buffer meanwhile. It ends early when many processes have
    /// ended in it. False: told to stop.
    pub fn wait(&mut self, stop: &AtomicBool) -> bool {
        loop {
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            let now = clock::monotonic_ns();
            if now >= self.next_drain_ns {
                break;
            }
            let left = Duration::from_nanos(self.next_drain_ns - now);
            self.wait_for_events(left.min(EVENTS_EVERY));
            self.take_events();
            if self.fold.exits_waiting() >= EXITS_WAITING_MAX {
                // The rhythm stays: what is left of the interval is told at its end.
                return true;
            }
        }
        // After a pause (a stopped process, a suspended machine) the rhythm starts anew; nothing is caught up.
        let interval_ns = u64::try_from(self.settings.interval.as_nanos()).unwrap_or(u64::MAX);
        let now = clock::monotonic_ns();
        self.next_drain_ns = self.next_drain_ns.saturating_add(interval_ns);
        if self.next_drain_ns <= now {
            self.next_drain_ns = now.saturating_add(interval_ns);
        }
        true
    }

    /// As `freeze`, read back from the bytes.
    ///
    /// # Errors
    /// As `freeze`.
    pub fn snapshot(&mut self) -> Result<v1::Snapshot, ObserveError> {
        Ok(self.freeze()?.thaw()?)
    }

    /// Finds what is there now, and what has gone: when now is, and what the books say of it.
    fn walk(&mut self) -> Result<(Instant, AuditReading), ObserveError> {
        self.fold.begin_walk();
        let mut walks = 0;
        let at = loop {
            let now = Instant {
                wall_ns: clock::wall_ns(),
                boottime_ns: clock::boottime_ns(),
            };
            let reading = read_audit(self.drain.as_ref())?;
            let preemptions = preemptions();
            self.walk_tasks()?;
            self.take_events();
            walks += 1;
            let took_ns = clock::boottime_ns().saturating_sub(now.boottime_ns);
            if took_ns < SHORT_WALK_NS || walks >= WALKS_MAX || preemptions == self::preemptions() {
                break (now, reading);
            }
        };
        let drain = self.drain.as_ref();
        if self.fold.note_missing(|tid, start| drain?.last_word(tid, start)) {
            // A program that has written the slot is about to write the event.
            std::thread::sleep(AFTER_SLOT);
            self.take_events();
        }
        Ok(at)
    }

    fn walk_tasks(&mut self) -> Result<(), ObserveError> {
        let fold = &mut self.fold;
        if let Some(drain) = &mut self.drain {
            drain.walk(|found, peak| fold.found(found, peak))?;
            if fold.take_met_stranger() {
                drain.ask_whole()?;
            }
            sample_proc(fold, &self.hidden, self.proc_units);
        } else {
            sample_proc(fold, &host::processes(), self.proc_units);
        }
        Ok(())
    }

    /// Ends the interval here and now, and tells what was used in it.
    ///
    /// # Errors
    /// When the kernel side cannot be read.
    pub fn freeze(&mut self) -> Result<Frozen<'_>, ObserveError> {
        self.take_events();
        if let Some(drain) = &mut self.drain {
            drain.next_epoch()?;
        }
        let (now, reading) = self.walk()?;
        let waits = self.drain.as_mut().map(Drain::take_waits).unwrap_or_default();
        // Nobody counts them in quiet mode.
        let waits = if self.quiet {
            WaitsByProcess::default()
        } else {
            waits
        };
        let drain = self.drain.as_ref();
        let drops = drain.map(Drain::drops).transpose()?.unwrap_or_default();
        let mut ways = DropReason::ALL.iter().zip(drops.iter().zip(&self.drops_before));
        if ways.any(|((reason, _name), (now, before))| *reason == DropReason::RingFull && now > before) {
            self.fold.note_lost_events();
        }
        self.rows.begin();
        let mut teller = Teller {
            identities: &mut self.identities,
            rows: &mut self.rows,
            waits: &waits,
            units: self.units,
            now,
            told: Told::default(),
        };
        let folded = self.fold.finish(
            now.boottime_ns,
            |tid, start| drain?.last_word(tid, start),
            |row| teller.tell(row),
        );
        let mut told = teller.told;
        let many = told.exits.len() >= EXITS_MANY;
        if self.swollen && !many {
            trim_memory();
        }
        self.swollen = many;

        let losses = losses(&drops, &self.drops_before, &folded);
        // Nothing was lost, nothing is asked.
        if drops.iter().any(|count| *count > 0) {
            for row in self.overflow()? {
                told.process_ns += row.cpu_time_ns_delta;
                self.rows.add(|_older| row);
            }
        }
        let used = used(&told, &losses, folded.torn_reads);
        let audit = audit(
            &self.before,
            &reading,
            used,
            self.drain
                .as_ref()
                .map_or_else(TimeAccounting::default, Drain::time_accounting),
        );
        let interval_ns = reading.raw_ns.saturating_sub(self.before.raw_ns);
        self.before = reading;
        let source = self.source();
        let kernel_cost = self.kernel_cost(audit.wall_ns, interval_ns)?;
        let (memory_total_bytes, memory_available_bytes) = host::memory();
        let (own_cpu_time_ns, own_rss_bytes) = told.own;
        let head = v1::Snapshot {
            host: self.settings.host.clone(),
            boot_id: self.boot_id.to_vec(),
            time: Some(sample::timestamp(now.wall_ns)),
            interval_ns,
            source: source.into(),
            host_info: Some(v1::HostInfo {
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                kernel_release: self.kernel.0.clone(),
                architecture: self.kernel.1.clone(),
                cpus: audit.cpus,
                memory_total_bytes: memory_total_bytes.unwrap_or(0),
                memory_available_bytes,
                processes: told.processes,
                threads: told.threads,
            }),
            audit: Some(audit),
            losses,
            agent_cost: Some(v1::AgentCost {
                cpu_time_ns_delta: own_cpu_time_ns,
                rss_bytes: own_rss_bytes,
                drain_ns: clock::boottime_ns().saturating_sub(now.boottime_ns),
                events: std::mem::take(&mut self.events),
                ..kernel_cost
            }),
            samples: Vec::new(),
            exits: told.exits,
            processes: told.infos,
        };
        self.drops_before = drops;
        Ok(Frozen::new(head, &self.rows))
    }

    fn wait_for_events(&self, time: Duration) {
        let Some(drain) = &self.drain else {
            std::thread::sleep(time);
            return;
        };
        // SAFETY: the descriptor belongs to the ring buffer, which lives as long as `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(drain.events_fd()) };
        let timeout = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // A signal or an error only makes us look earlier.
        _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout));
    }

    fn take_events(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let fold = &mut self.fold;
        self.events += drain.events(|event| match event {
            Event::Fork(event) => fold.fork(event),
            Event::Exec(event) => fold.exec(event),
            Event::Exit(event) => fold.exit(event),
            Event::ThreadEnd(event, peak) => fold.thread_end(event, peak),
            Event::ProcessFreed(event) => fold.process_freed(event),
        });
    }
}
