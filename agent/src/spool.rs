//! Frozen snapshots on disk until the collector has stored them. Knows when segments begin, end and give way; time
//! comes in by the door, and so does the disk.
//!
//! A segment is written once, by one life of the agent, and never again: what a kill has torn is passed over by
//! whoever reads it. Nothing is read at the start but names, so it takes the same however much waits. There is no
//! file that says how far the collector is: each record does. A segment that comes back after a power cut is sent
//! once more, and the collector knows its numbers.

mod backlog;
pub mod codec;
pub mod disk;
mod evict;
pub mod index;
pub mod keeper;
pub mod record;
pub mod segment;
mod terms;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

pub use self::backlog::Batch;
pub use self::evict::GaveWay;
pub use self::terms::{CORRUPT, EVICTED, FULL, IO, Limits, SLOW, Stats, Sync, TOO_LONG};
use self::{
    backlog::Position,
    disk::Disk,
    index::{Index, Segment},
    segment::Encoder,
};
use crate::queue::Frozen;

/// A segment that is this long is full; smaller spools have smaller ones.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Segments that a spool is divided into, at least.
const SEGMENTS_MIN: u64 = 16;
/// A file that is longer is none of ours: a full segment, and one more snapshot with the copy of its key.
const FILE_BYTES_MAX: u64 = SEGMENT_BYTES + 2 * (17 << 20);
/// Snapshots that may be written and not synced, and their bytes: with more the disk is waited for at once.
const DIRTY_LEN_MAX: usize = 256;
const DIRTY_BYTES_MAX: usize = 8 << 20;
/// The log is told of a disk that fails, and of segments that gave way, at most so often.
const SAID_EVERY: Duration = Duration::from_mins(1);

/// The spool.
#[derive(Debug)]
pub struct Spool<D: Disk> {
    disk: D,
    limits: Limits,
    index: Index,
    current: Option<Current<D::File>>,
    /// The life that writes, how many of its snapshots were written, and how far it is stored.
    live: Live,
    /// An epoch, and from which number on memory holds it too.
    memory: (u64, u64),
    backlog: Option<Position>,
    losses: BTreeMap<&'static str, u64>,
    /// Of the life that writes, what gave way and memory may still hold.
    gave_way: Vec<GaveWay>,
    stats: Stats,
    said: Said,
    /// What a disk failed to keep is being written once more.
    rescuing: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Live {
    epoch: u64,
    /// Ordinal of what was written last, and its number.
    written: u64,
    written_seq: u64,
    durable: u64,
}

/// The segment that grows.
#[derive(Debug)]
struct Current<F> {
    number: u64,
    file: F,
    encoder: Encoder,
    bytes: u64,
    /// Written, and perhaps not yet on the disk.
    dirty: VecDeque<(Arc<Frozen>, Instant)>,
    /// The disk knows its name.
    named: bool,
}

/// What the log knows.
#[derive(Debug, Default)]
struct Said {
    failed: Option<Instant>,
    evicted: Option<Instant>,
    evicted_snapshots: u64,
    evicted_ms: Option<(i64, i64)>,
}

impl<D: Disk> Spool<D> {
    /// Finds what earlier lives have left. Reads names only, and not without end.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn open(mut disk: D, limits: Limits, now: Instant) -> io::Result<Self> {
        let (index, strangers) = Index::read(&mut disk, FILE_BYTES_MAX, now)?;
        if strangers > 0 {
            warn!(
                strangers,
                "files in the spool folder that are no segments of this version are left alone"
            );
        }
        let mut spool = Self {
            disk,
            limits,
            index,
            current: None,
            live: Live::default(),
            memory: (0, u64::MAX),
            backlog: None,
            losses: BTreeMap::new(),
            gave_way: Vec::new(),
            stats: Stats::default(),
            said: Said::default(),
            rescuing: false,
        };
        spool.keep_quotas(now);
        Ok(spool)
    }

    /// Writes a snapshot, so that it survives a kill.
    ///
    /// # Errors
    /// The reason, when no disk has it now.
    pub fn append(&mut self, frozen: &Arc<Frozen>, now: Instant) -> Result<(), &'static str> {
        if frozen.request.epoch != self.live.epoch {
            self.close(now);
            self.live = Live {
                epoch: frozen.request.epoch,
                ..Live::default()
            };
        }
        if frozen.request.seq <= self.live.durable {
            return Ok(());
        }
        let mut outcome = self.write(frozen, now);
        if outcome == Err(FULL) && self.evict_oldest(now) {
            outcome = self.write(frozen, now);
        }
        self.keep_quotas(now);
        outcome
    }

    fn write(&mut self, frozen: &Arc<Frozen>, now: Instant) -> Result<(), &'static str> {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.bytes >= self.segment_bytes())
        {
            self.close(now);
        }
        let ordinal = self.next_ordinal(frozen.request.seq);
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin(ordinal, now)?,
        };
        let mut bytes = Vec::new();
        if !current
            .encoder
            .encode(frozen, ordinal, self.live.durable, &mut bytes)
        {
            self.current = Some(current);
            return Err(TOO_LONG);
        }
        self.stats.writes += 1;
        if let Err(error) = self.disk.write(&mut current.file, &bytes) {
            // What is behind the last whole record is no record: whoever reads it passes over it.
            drop(self.disk.truncate(&mut current.file, current.bytes));
            let reason = self.failed("write", &error, now);
            self.current = Some(current);
            self.close(now);
            return Err(reason);
        }
        self.live.written = ordinal;
        self.live.written_seq = self.live.written_seq.max(frozen.request.seq);
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.stats.written_bytes += len;
        current.bytes += len;
        current.dirty.push_back((Arc::clone(frozen), now));
        self.index.grow(current.number, len, frozen.request.seq, now);
        let dirty_bytes: usize = current
            .dirty
            .iter()
            .map(|(frozen, _)| frozen.request.snapshot.len())
            .sum();
        let due = self.limits.sync == Sync::Each
            || current.dirty.len() > DIRTY_LEN_MAX
            || dirty_bytes > DIRTY_BYTES_MAX;
        self.current = Some(current);
        if due && !self.rescuing {
            self.sync(now);
        }
        Ok(())
    }

    /// What memory alone holds before a number has ordinals as well: after a kill their absence is noticed, and counted.
    fn next_ordinal(&self, seq: u64) -> u64 {
        let live = self.live;
        let memory_from = self.memory_from().unwrap_or(seq);
        let held_from = memory_from.max(live.written_seq + 1).max(live.durable + 1);
        live.written + 1 + seq.saturating_sub(held_from)
    }

    /// From which number on memory holds the life that writes.
    fn memory_from(&self) -> Option<u64> {
        let (epoch, from) = self.memory;
        (epoch == self.live.epoch).then_some(from)
    }

    fn begin(&mut self, ordinal: u64, now: Instant) -> Result<Current<D::File>, &'static str> {
        let segment = Segment::new(self.live.epoch, ordinal, now);
        let number = self.index.next_number();
        let file = match self.disk.create(&segment.name(number)) {
            Ok(file) => file,
            Err(error) => return Err(self.failed("create", &error, now)),
        };
        self.index.insert(number, segment);
        Ok(Current {
            number,
            file,
            encoder: Encoder::default(),
            bytes: 0,
            dirty: VecDeque::new(),
            named: false,
        })
    }

    /// Ends the segment that grows; what of it may not be on the disk goes into another.
    fn close(&mut self, now: Instant) {
        self.forget_stored();
        if self
            .current
            .as_ref()
            .is_some_and(|current| !current.dirty.is_empty())
        {
            self.sync(now);
        }
        if let Some(current) = self.current.take()
            && current.bytes == 0
        {
            self.remove(current.number);
        }
        self.remove_stored();
    }

    /// Waits for the disk. A file that it failed with is not asked again: what the kernel has dropped stays dropped.
    fn sync(&mut self, now: Instant) {
        let Some(mut current) = self.current.take() else {
            return;
        };
        if !current.named {
            self.stats.syncs += 1;
            match self.disk.sync_names() {
                Ok(()) => current.named = true,
                Err(error) => {
                    self.failed("sync", &error, now);
                }
            }
        }
        self.stats.syncs += 1;
        match self.disk.sync(&mut current.file) {
            Ok(()) => {
                current.dirty.clear();
                self.current = Some(current);
            }
            Err(error) => {
                self.failed("sync", &error, now);
                // They were written once: if this fails too, they are there unless the power goes.
                if !std::mem::replace(&mut self.rescuing, true) {
                    for (frozen, _) in &current.dirty {
                        if self.write(frozen, now).is_err() {
                            break;
                        }
                    }
                    self.rescuing = false;
                }
            }
        }
    }

    /// How far the present life is stored, and from where on memory holds it too.
    pub fn progress(&mut self, epoch: u64, durable: u64, memory_from: u64) {
        self.memory = (epoch, memory_from);
        self.stored(epoch, durable);
        if epoch == self.live.epoch {
            self.forget_marks(|mark| mark.epoch == epoch && mark.last_seq < Some(memory_from));
        }
    }

    /// All that a former life held in memory alone is written into the present one.
    pub fn moved(&mut self) {
        let live = self.live.epoch;
        self.forget_marks(|mark| mark.epoch != live);
    }

    fn forget_marks(&mut self, is_meant: impl Fn(&Segment) -> bool) {
        for number in self.index.marks(is_meant) {
            self.remove(number);
        }
    }

    /// The collector has stored a life up to and with `seq`.
    pub fn stored(&mut self, epoch: u64, seq: u64) {
        if epoch == self.live.epoch {
            self.live.durable = self.live.durable.max(seq);
        }
        if let Some(position) = self.backlog.as_mut().filter(|position| position.epoch == epoch) {
            position.durable = position.durable.max(seq);
        }
        self.forget_stored();
        self.remove_stored();
    }

    fn forget_stored(&mut self) {
        let live = self.live;
        if let Some(current) = &mut self.current {
            current.dirty.retain(|(frozen, _)| {
                frozen.request.epoch != live.epoch || frozen.request.seq > live.durable
            });
        }
    }

    fn remove_stored(&mut self) {
        let mut stored = self.index.stored(self.live.epoch, self.live.durable);
        if let Some(position) = &self.backlog {
            stored.extend(self.index.stored(position.epoch, position.durable));
        }
        let current = self.current.as_ref().map(|current| current.number);
        let reading = self.backlog.as_ref().and_then(Position::reading);
        for number in stored {
            if Some(number) != current && Some(number) != reading {
                self.remove(number);
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.sync(now);
        }
        self.keep_quotas(now);
    }

    /// When the disk has to be waited for; `None`: nothing waits.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let Sync::After(delay) = self.limits.sync else {
            return None;
        };
        let (_, since) = self.current.as_ref()?.dirty.front()?;
        Some(*since + delay)
    }

    /// The last call: all is on the disk that has to be.
    pub fn end(&mut self, now: Instant) {
        self.close(now);
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES.min(self.limits.bytes_max / SEGMENTS_MIN)
    }

    /// Takes a segment out of the books and off the disk.
    fn remove(&mut self, number: u64) {
        if let Some(segment) = self.index.remove(number)
            && self.disk.remove(&segment.name(number)).is_err()
        {
            // It is found again at the next start.
            self.stats.failures += 1;
        }
    }

    fn lose(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.losses.entry(reason).or_default() += count;
        }
    }

    /// Counts a failure of the disk, says it, and names its reason.
    fn failed(&mut self, what: &'static str, error: &io::Error, now: Instant) -> &'static str {
        self.stats.failures += 1;
        let quiet = |said: Instant| now.saturating_duration_since(said) < SAID_EVERY;
        if !self.said.failed.is_some_and(quiet) {
            warn!(what, %error, "the disk of the spool fails; newer snapshots wait in memory, as many as fit");
            self.said.failed = Some(now);
        }
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FULL,
            _ => IO,
        }
    }

    /// What of the present life gave way since the last call though memory may still hold it.
    pub fn take_evicted(&mut self) -> Vec<GaveWay> {
        std::mem::take(&mut self.gave_way)
    }

    /// Snapshots that were lost since the last call, by reason.
    pub fn take_losses(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.losses)
    }

    /// What was asked of the disk, and what it holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            bytes: self.index.bytes(),
            segments: self.index.count(),
            backlog: self.index.snapshots_but(self.live.epoch),
            ..self.stats
        }
    }
}

#[cfg(test)]
mod tests;
