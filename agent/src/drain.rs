//! Maps → readings: the one file that reads a map. Slots are mapped memory and cost no system call; events come
//! out of the ring buffer; the iterator walks what is there now.

mod overflow;
mod shared;
mod waits;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, RawFd},
};

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya_log::EbpfLogger;
use procscope_agent_common::{
    CONTROL_EPOCH, CONTROL_QUIET, CONTROL_WHOLE, CostSlot, CpuSlot, DropReason, EVENT_EXEC, EVENT_EXIT,
    EVENT_FORK, EVENT_PROCESS_FREED, EVENT_THREAD_END, ExecEvent, ExitEvent, ForkEvent, KernelRecord,
    OverflowSlot, PROGRAMS, ProcessFreedEvent, ProcessKey, Program, StillRecord, StillThreadRecord,
    THREAD_SLOTS, TaskRecord, ThreadEndEvent, ThreadSlot, WAIT_BUCKETS, WALK_STILL, WALK_STILL_THREAD,
    WALK_TASK, thread_slot_index,
};

use crate::{
    fold::{ByKey, Found, LastWord},
    probes::{self, Counts, IDLE_LOOP, ProbeError, Probes, TimeAccounting},
};
use overflow::Overflow;
use shared::Shared;
use waits::Waits;

/// Bytes asked of the iterator at a time: what the kernel fills at once, several times over.
const WALK_BUFFER_LEN: usize = 128 << 10;

/// Events taken at most in one go: what the ring buffer holds when all are of the smallest kind.
const EVENTS_MAX: usize = (4 << 20) / size_of::<ForkEvent>();

/// Why the kernel side could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// A map is not there or of another kind: a bug of ours.
    #[error("the kernel programs have no map {0}")]
    NoMap(&'static str),
    /// A map could not be opened or read.
    #[error("could not read map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
    /// A map could not be mapped into memory.
    #[error("could not map {map} into memory")]
    Mmap {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The walk over all tasks failed.
    #[error("could not walk the tasks of this machine")]
    Walk(#[source] io::Error),
    /// The hot programs could not be detached.
    #[error("could not detach the programs on hot paths")]
    Detach(#[source] ProbeError),
}

/// What happened to a process or thread.
pub enum Event<'a> {
    /// A process was made.
    Fork(&'a ForkEvent),
    /// A process became another program.
    Exec(&'a ExecEvent),
    /// The last thread of a process began to exit.
    Exit(&'a ExitEvent),
    /// A thread ran for the last time. The number is its peak resident set of the open epoch, in pages.
    ThreadEnd(&'a ThreadEndEvent, u64),
    /// The last of a process is freed.
    ProcessFreed(&'a ProcessFreedEvent),
}

/// Idle time of one CPU at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuIdle {
    /// Idle time in all, nanoseconds, the open interval included.
    pub idle_ns: u64,
    /// False until the CPU has switched once since the programs were attached.
    pub known: bool,
}

/// Run-queue waits of processes by length: below 1,024 ns, 2,048 ns and so on, the last one open.
pub type WaitsByProcess = ByKey<ProcessKey, [u64; WAIT_BUCKETS]>;

/// The kernel side, open for reading. Dropping it detaches the programs.
pub struct Drain {
    slots: Shared<ThreadSlot>,
    cpus: Shared<CpuSlot>,
    events: RingBuf<MapData>,
    drops: PerCpuArray<MapData, u64>,
    control: Array<MapData, u64>,
    costs: Shared<CostSlot>,
    cpu_count: u32,
    overflow: Overflow,
    epoch: u64,
    /// How often the walk was asked to tell every task whole.
    whole: u64,
    walk_buffer: Vec<u8>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    probes: Probes,
    watches_idle_loop: bool,
    /// CPUs that have switched since the programs were attached, whatever their slots say.
    visited: HashSet<u32>,
    waits: Option<Waits>,
}

impl Drain {
    /// Opens the maps of programs that are attached.
    ///
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(mut probes: Probes, cpus: u32) -> Result<Self, DrainError> {
        let slots = Shared::map(take(&mut probes, "SLOTS")?, "SLOTS", THREAD_SLOTS)?;
        let costs = Shared::map(take(&mut probes, "COSTS")?, "COSTS", cpus * PROGRAMS)?;
        let waits = if probes.counts_waits {
            let slots = Shared::map(take(&mut probes, "WAITS")?, "WAITS", THREAD_SLOTS)?;
            Some(Waits::new(slots))
        } else {
            None
        };
        let cpu_count = cpus;
        let cpus = Shared::map(take(&mut probes, "CPUS")?, "CPUS", cpus)?;
        let events = RingBuf::try_from(take(&mut probes, "EVENTS")?).map_err(|source| DrainError::Map {
            map: "EVENTS",
            source,
        })?;
        let drops = PerCpuArray::try_from(take(&mut probes, "DROPS")?)
            .map_err(|source| DrainError::Map { map: "DROPS", source })?;
        let control = Array::try_from(take(&mut probes, "CONTROL")?).map_err(|source| DrainError::Map {
            map: "CONTROL",
            source,
        })?;
        let overflow = Overflow::open(take(&mut probes, "OVERFLOW")?)?;
        // Diagnostics of the kernel side are a courtesy: without them the figures are the same.
        let logger = EbpfLogger::init(&mut probes.ebpf)
            .inspect_err(|error| tracing::warn!(%error, "kernel-side log lines are not shown"))
            .ok();
        let mut drain = Self {
            slots,
            cpus,
            events,
            drops,
            control,
            costs,
            cpu_count,
            overflow,
            epoch: 1,
            whole: 0,
            walk_buffer: vec![0; WALK_BUFFER_LEN],
            logger,
            probes,
            watches_idle_loop: false,
            visited: HashSet::new(),
            waits,
        };
        drain.set_epoch(1)?;
        Ok(drain)
    }

    /// These CPUs have switched under the eyes of the programs: one that has not idled since has idled for no time.
    pub fn has_switched(&mut self, cpus: HashSet<u32>) {
        self.visited = cpus;
    }

    /// Takes idle time from the idle loop too: for a kernel that hides switches.
    ///
    /// # Errors
    /// When the kernel has no such tracepoint, or refuses.
    pub fn watch_idle_loop(&mut self) -> Result<(), ProbeError> {
        if !self.watches_idle_loop {
            self.probes.attach_to(IDLE_LOOP)?;
            self.watches_idle_loop = true;
        }
        Ok(())
    }

    /// What this kernel takes out of task times.
    #[must_use]
    pub fn time_accounting(&self) -> TimeAccounting {
        self.probes.time_accounting
    }

    /// What this kernel counts of what it may leave out.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.probes.counts
    }

    /// Becomes readable when the ring buffer is half full.
    #[must_use]
    pub fn events_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }

    /// Starts a new epoch: peaks that come from now on belong to the next interval.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn next_epoch(&mut self) -> Result<(), DrainError> {
        self.set_epoch(self.epoch + 1)
    }

    fn set_epoch(&mut self, epoch: u64) -> Result<(), DrainError> {
        self.tell(CONTROL_EPOCH, epoch)?;
        self.epoch = epoch;
        Ok(())
    }

    fn tell(&mut self, index: u32, value: u64) -> Result<(), DrainError> {
        self.control
            .set(index, value, 0)
            .map_err(|source| DrainError::Map {
                map: "CONTROL",
                source,
            })
    }

    /// Detaches the programs on hot paths. Ends of threads are told when they are freed from here on, and idle time
    /// comes from the idle loop. There is no way back: attaching may need what the agent has given up since.
    ///
    /// # Errors
    /// When the kernel side cannot be told or refuses.
    pub fn go_quiet(&mut self) -> Result<(), DrainError> {
        if let Err(error) = self.watch_idle_loop() {
            tracing::warn!(%error, "idle time of CPUs is not seen any more: it will stand in the residual");
        }
        // First the other way of telling: a thread that ends in between is told once, its slot says so.
        self.tell(CONTROL_QUIET, 1)?;
        self.probes.detach_hot().map_err(DrainError::Detach)
    }

    /// What each program has cost since it was attached, all CPUs together.
    pub fn costs(&self) -> impl Iterator<Item = (&'static str, CostSlot)> {
        Program::ALL
            .into_iter()
            .map(|(program, name)| (name, self.cost_of(program)))
    }

    /// What reading the clock twice takes, nanoseconds: it stands in every run that is timed.
    #[must_use]
    pub fn clock_ns(&self) -> u64 {
        let clock = self.cost_of(Program::Clock);
        clock.timed_ns / clock.timed_runs.max(1)
    }

    fn cost_of(&self, program: Program) -> CostSlot {
        let mut sum = CostSlot::default();
        for cpu in 0..self.cpu_count {
            #[expect(clippy::as_conversions, reason = "the discriminant is the index")]
            let slot = self
                .costs
                .get(cpu * PROGRAMS + program as u32)
                .unwrap_or_default();
            sum.runs = sum.runs.saturating_add(slot.runs);
            sum.timed_runs = sum.timed_runs.saturating_add(slot.timed_runs);
            sum.timed_ns = sum.timed_ns.saturating_add(slot.timed_ns);
        }
        sum
    }

    /// What being attached costs a program beside its own time, nanoseconds a run.
    #[must_use]
    pub fn attach_ns(&self) -> Option<u64> {
        self.probes.attach_ns
    }

    /// Sums over threads whose ends were lost and that no walk had found, by control group, since the programs were
    /// attached.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn overflow(&self) -> Result<Vec<(u64, OverflowSlot)>, DrainError> {
        self.overflow.read()
    }

    /// Takes the events that are there, in order, and passes kernel-side diagnostics on to the log.
    pub fn events(&mut self, mut each: impl FnMut(Event<'_>)) -> u64 {
        let mut count = 0;
        for _event in 0..EVENTS_MAX {
            let Some(item) = self.events.next() else { break };
            count += 1;
            let bytes: &[u8] = &item;
            let kind = bytes.first_chunk().copied().map(u32::from_ne_bytes);
            match kind {
                Some(EVENT_FORK) => _ = record(bytes).map(|event| each(Event::Fork(&event))),
                Some(EVENT_EXEC) => _ = record(bytes).map(|event| each(Event::Exec(&event))),
                Some(EVENT_EXIT) => _ = record(bytes).map(|event| each(Event::Exit(&event))),
                Some(EVENT_THREAD_END) => {
                    _ = record(bytes).map(|event: ThreadEndEvent| {
                        let (tid, start) = (event.tid, event.start_boottime_ns);
                        let peak = self.slots.peak(tid, start, self.epoch);
                        if let Some(waits) = &mut self.waits
                            && self.slots.belongs_to(tid, start)
                        {
                            waits.look_at(event.process, tid, start);
                        }
                        each(Event::ThreadEnd(&event, peak));
                    });
                }
                Some(EVENT_PROCESS_FREED) => {
                    _ = record(bytes).map(|event| each(Event::ProcessFreed(&event)));
                }
                _ => {}
            }
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        count
    }

    /// The next walk tells every task whole, whether it has run since the last one or not.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn ask_whole(&mut self) -> Result<(), DrainError> {
        self.whole += 1;
        self.tell(CONTROL_WHOLE, self.whole)
    }

    /// Walks every task of the machine. The second argument of `each` is the task's peak resident set in the
    /// epoch before the open one, in pages.
    ///
    /// # Errors
    /// When the kernel refuses or ends the walk with half a record.
    pub fn walk(&mut self, each: impl FnMut(&Found, u64)) -> Result<(), DrainError> {
        if let Some(waits) = &mut self.waits {
            waits.begin_walk();
            // Waits by length stand in every row: none is as it was.
            self.ask_whole()?;
        }
        let walked = self.walk_to_the_end(each);
        if walked.is_err() {
            // Nobody knows what was told.
            self.ask_whole()?;
        } else if let Some(waits) = &mut self.waits {
            waits.end_walk();
        }
        walked
    }

    fn walk_to_the_end(&mut self, mut each: impl FnMut(&Found, u64)) -> Result<(), DrainError> {
        let mut file = File::from(probes::open_iterator(&self.probes.iterator).map_err(DrainError::Walk)?);
        let ended_epoch = self.epoch - 1;
        let mut filled = 0;
        loop {
            let read = file
                .read(&mut self.walk_buffer[filled..])
                .map_err(DrainError::Walk)?;
            if read == 0 {
                break;
            }
            filled += read;
            let mut used = 0;
            while let Some((found, len)) = found(&self.walk_buffer[used..filled])? {
                used += len;
                let (tid, start, process) = found.whose();
                if let Some(waits) = &mut self.waits
                    && self.slots.belongs_to(tid, start)
                {
                    waits.look_at(process, tid, start);
                }
                each(&found, self.slots.peak(tid, start, ended_epoch));
            }
            self.walk_buffer.copy_within(used..filled, 0);
            filled -= used;
        }
        if filled == 0 {
            Ok(())
        } else {
            Err(DrainError::Walk(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    /// Run-queue waits of each process by length since this was last asked; empty unless they are counted.
    pub fn take_waits(&mut self) -> WaitsByProcess {
        self.waits.as_mut().map(Waits::take).unwrap_or_default()
    }

    /// What the scheduler last said of a thread that no walk finds any more.
    #[must_use]
    pub fn last_word(&self, tid: u32, start_boottime_ns: u64) -> Option<LastWord> {
        let slot = self.slots.get(thread_slot_index(tid))?;
        (slot.tid == tid && slot.start_boottime_ns == start_boottime_ns).then_some(LastWord {
            cpu_time_ns: slot.cpu_time_ns,
            runqueue_ns: slot.runqueue_ns,
            ended: slot.ended != 0,
        })
    }

    /// Idle time of a CPU, closed at `now_monotonic_ns`.
    #[must_use]
    pub fn idle(&self, cpu: u32, now_monotonic_ns: u64) -> Option<CpuIdle> {
        // A CPU writes its slot in a few nanoseconds; a reader that is disturbed asks again.
        for _attempt in 0..1000 {
            let before = self.cpus.get(cpu)?;
            let after = self.cpus.get(cpu)?;
            if before.version == after.version && before.version % 2 == 0 {
                let since = before.idle_since_monotonic_ns;
                let open = match (since, before.idle_left_monotonic_ns) {
                    (0, _) => 0,
                    (_, 0) => now_monotonic_ns.saturating_sub(since),
                    // Whether it only looks up or runs a hidden thread is known once it idles again.
                    (_, left) => left.saturating_sub(since),
                };
                return Some(CpuIdle {
                    idle_ns: before.idle_ns + open,
                    known: before.seen != 0 || self.visited.contains(&cpu),
                });
            }
        }
        None
    }

    /// What the kernel side lost since it was attached, by reason.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn drops(&self) -> Result<[u64; DropReason::ALL.len()], DrainError> {
        let mut totals = [0; DropReason::ALL.len()];
        for ((reason, _name), total) in DropReason::ALL.into_iter().zip(&mut totals) {
            #[expect(clippy::as_conversions, reason = "the discriminant is the index")]
            let values = self
                .drops
                .get(&(reason as u32), 0)
                .map_err(|source| DrainError::Map { map: "DROPS", source })?;
            *total = values.iter().sum();
        }
        Ok(totals)
    }
}

fn take(probes: &mut Probes, map: &'static str) -> Result<Map, DrainError> {
    probes.ebpf.take_map(map).ok_or(DrainError::NoMap(map))
}

/// The first record of a walk's bytes and its length; `None`: the rest of it is still to come.
fn found(bytes: &[u8]) -> Result<Option<(Found, usize)>, DrainError> {
    fn whole<T: KernelRecord>(bytes: &[u8], found: fn(T) -> Found) -> Option<(Found, usize)> {
        Some((found(record(bytes)?), size_of::<T>()))
    }
    match bytes.first_chunk().copied().map(u32::from_ne_bytes) {
        None => Ok(None),
        Some(WALK_TASK) => Ok(whole::<TaskRecord>(bytes, Found::Task)),
        Some(WALK_STILL) => Ok(whole::<StillRecord>(bytes, Found::Still)),
        Some(WALK_STILL_THREAD) => Ok(whole::<StillThreadRecord>(bytes, Found::StillThread)),
        Some(_) => Err(DrainError::Walk(io::ErrorKind::InvalidData.into())),
    }
}

/// A record out of bytes that the kernel side wrote.
fn record<T: KernelRecord>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: enough bytes, and any bytes are a value of a `KernelRecord`; they need not be aligned.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

impl Shared<ThreadSlot> {
    /// Whether a thread has its slot now.
    fn belongs_to(&self, tid: u32, start_boottime_ns: u64) -> bool {
        self.get(thread_slot_index(tid))
            .is_some_and(|slot| slot.tid == tid && slot.start_boottime_ns == start_boottime_ns)
    }

    /// The greatest resident set that a thread saw in one epoch, in pages; 0: nothing was seen.
    fn peak(&self, tid: u32, start_boottime_ns: u64, epoch: u64) -> u64 {
        let Some(slot) = self.get(thread_slot_index(tid)) else {
            return 0;
        };
        if slot.tid != tid || slot.start_boottime_ns != start_boottime_ns {
            return 0;
        }
        let bank = usize::from(epoch % 2 == 1);
        if u64::from(slot.peak_epoch[bank]) == epoch & u64::from(u32::MAX) {
            slot.peak_rss_pages[bank]
        } else {
            0
        }
    }
}
