//! Maps → readings: the one file that reads a map. Slots are mapped memory and cost no system call; events come
//! out of the ring buffer; the iterator walks what is there now.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd},
    ptr::NonNull,
};

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya_log::EbpfLogger;
use procscope_agent_common::{
    CpuSlot, DropReason, EVENT_EXEC, EVENT_EXIT, EVENT_FORK, EVENT_THREAD_END, ExecEvent, ExitEvent,
    ForkEvent, KernelRecord, THREAD_SLOTS, TaskRecord, ThreadEndEvent, ThreadSlot, thread_slot_index,
};

use crate::probes::{self, Counts, IDLE_LOOP, ProbeError, Probes, TimeAccounting};

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
}

/// Idle time of one CPU at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuIdle {
    /// Idle time in all, nanoseconds, the open interval included.
    pub idle_ns: u64,
    /// False until the CPU has switched once since the programs were attached.
    pub known: bool,
}

/// The kernel side, open for reading. Dropping it detaches the programs.
pub struct Drain {
    slots: Shared<ThreadSlot>,
    cpus: Shared<CpuSlot>,
    events: RingBuf<MapData>,
    drops: PerCpuArray<MapData, u64>,
    epoch_map: Array<MapData, u64>,
    epoch: u64,
    walk_buffer: Vec<u8>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    probes: Probes,
}

impl Drain {
    /// Opens the maps of programs that are attached.
    ///
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(mut probes: Probes, cpus: u32) -> Result<Self, DrainError> {
        let slots = Shared::map(&mut probes, "SLOTS", THREAD_SLOTS)?;
        let cpus = Shared::map(&mut probes, "CPUS", cpus)?;
        let events = RingBuf::try_from(take(&mut probes, "EVENTS")?).map_err(|source| DrainError::Map {
            map: "EVENTS",
            source,
        })?;
        let drops = PerCpuArray::try_from(take(&mut probes, "DROPS")?)
            .map_err(|source| DrainError::Map { map: "DROPS", source })?;
        let epoch_map = Array::try_from(take(&mut probes, "EPOCH")?)
            .map_err(|source| DrainError::Map { map: "EPOCH", source })?;
        // Diagnostics of the kernel side are a courtesy: without them the figures are the same.
        let logger = EbpfLogger::init(&mut probes.ebpf)
            .inspect_err(|error| tracing::warn!(%error, "kernel-side log lines are not shown"))
            .ok();
        let mut drain = Self {
            slots,
            cpus,
            events,
            drops,
            epoch_map,
            epoch: 1,
            walk_buffer: vec![0; WALK_BUFFER_LEN],
            logger,
            probes,
        };
        drain.set_epoch(1)?;
        Ok(drain)
    }

    /// Takes idle time from the idle loop too: for a kernel that hides switches.
    ///
    /// # Errors
    /// When the kernel has no such tracepoint, or refuses.
    pub fn watch_idle_loop(&mut self) -> Result<(), ProbeError> {
        self.probes.attach_to(IDLE_LOOP)
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
        self.epoch_map
            .set(procscope_agent_common::EPOCH_INDEX, epoch, 0)
            .map_err(|source| DrainError::Map { map: "EPOCH", source })?;
        self.epoch = epoch;
        Ok(())
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
                        let peak = self.slots.peak(event.tid, event.start_boottime_ns, self.epoch);
                        each(Event::ThreadEnd(&event, peak));
                    });
                }
                _ => {}
            }
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        count
    }

    /// Walks every task of the machine. The second argument of `each` is the task's peak resident set in the
    /// epoch before the open one, in pages.
    ///
    /// # Errors
    /// When the kernel refuses or ends the walk with half a record.
    pub fn walk(&mut self, mut each: impl FnMut(&TaskRecord, u64)) -> Result<(), DrainError> {
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
            let whole = filled - filled % size_of::<TaskRecord>();
            for bytes in self.walk_buffer[..whole].chunks_exact(size_of::<TaskRecord>()) {
                if let Some(task) = record::<TaskRecord>(bytes) {
                    each(
                        &task,
                        self.slots.peak(task.tid, task.start_boottime_ns, ended_epoch),
                    );
                }
            }
            self.walk_buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
        if filled == 0 {
            Ok(())
        } else {
            Err(DrainError::Walk(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    /// What the scheduler last said of a thread whose end was lost: CPU time and run-queue wait in nanoseconds.
    #[must_use]
    pub fn last_word(&self, tid: u32, start_boottime_ns: u64) -> Option<(u64, u64)> {
        let slot = self.slots.get(thread_slot_index(tid))?;
        (slot.tid == tid && slot.start_boottime_ns == start_boottime_ns)
            .then_some((slot.cpu_time_ns, slot.runqueue_ns))
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
                    known: before.seen != 0,
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

/// A record out of bytes that the kernel side wrote.
fn record<T: KernelRecord>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: enough bytes, and any bytes are a value of a `KernelRecord`; they need not be aligned.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// An array map in this process's memory, read while programs write it.
struct Shared<T> {
    start: NonNull<T>,
    len: u32,
    bytes: usize,
    // Keeps the map alive for as long as its memory is read.
    _map: MapData,
}

// SAFETY: the memory is only read, and may be read from any thread.
unsafe impl<T: KernelRecord> Send for Shared<T> {}

impl<T: KernelRecord> Shared<T> {
    fn map(probes: &mut Probes, name: &'static str, len: u32) -> Result<Self, DrainError> {
        let Map::Array(map) = take(probes, name)? else {
            return Err(DrainError::NoMap(name));
        };
        let bytes = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .saturating_mul(size_of::<T>())
            .next_multiple_of(4096);
        let fd: BorrowedFd<'_> = map.fd().as_fd();
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else uses it.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                rustix::mm::ProtFlags::READ,
                rustix::mm::MapFlags::SHARED,
                fd,
                0,
            )
        }
        .map_err(|error| DrainError::Mmap {
            map: name,
            source: error.into(),
        })?;
        let start = NonNull::new(start.cast()).ok_or(DrainError::NoMap(name))?;
        Ok(Self {
            start,
            len,
            bytes,
            _map: map,
        })
    }

    /// A copy of one element; words of it may be of different moments.
    fn get(&self, index: u32) -> Option<T> {
        let index = (index < self.len).then(|| usize::try_from(index).ok())??;
        // SAFETY: within the mapping, which lives as long as `self`, and aligned as the kernel laid it out.
        let element = unsafe { self.start.add(index) };
        // SAFETY: as above; any bytes are a value, and the read is volatile because programs write it.
        Some(unsafe { element.as_ptr().read_volatile() })
    }
}

impl Shared<ThreadSlot> {
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

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, `bytes` long, and nobody reads it after this.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        if let Err(error) = unmapped {
            tracing::warn!(%error, "could not unmap a map");
        }
    }
}
