//! Frozen snapshots that wait for the collector in memory: bounded, the oldest gives way, and what is lost with it
//! is counted. Pure.
//!
//! With a spool the disk holds what gives way here, so few are kept; what the disk did not take is kept for longer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use procscope_proto::v1::{PushSnapshotsRequest, Snapshot};
use prost::Message;

use crate::{losses, spool::segment::Held};

/// Snapshots of an hour at one a second.
pub const LEN_MAX: usize = 3600;
/// Memory that waiting snapshots may take.
pub const BYTES_MAX: usize = 12 << 20;
/// Snapshots kept that the disk holds too: what a collector that restarts asks for again.
pub const SPOOLED_LEN_MAX: usize = 64;
/// A life of the agent that has more waiting when the collector comes back leaves them to the backlog, so that the
/// newest can be asked for at once.
pub const OVERTAKE_LEN: usize = 32;

/// A snapshot gave way in memory and no disk held it.
pub const QUEUE_FULL: &str = "queue_full";

/// A snapshot with its identity: from here on these are its bytes, whoever sends them, however often.
#[derive(Debug, Clone, PartialEq)]
pub struct Frozen {
    /// As it goes over the wire.
    pub request: PushSnapshotsRequest,
    /// The drain instant, in milliseconds since 1970.
    pub time_ms: i64,
    /// Lost snapshots that this one states: lost once more when it is.
    pub stated: u32,
}

/// What the disk has of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDisk {
    /// There is no spool.
    Never,
    /// The spool has it in hand.
    Pending,
    /// It is there.
    Written,
    /// The spool could not take it, for this reason.
    Refused(&'static str),
}

#[derive(Debug)]
struct Waiting {
    frozen: Arc<Frozen>,
    on_disk: OnDisk,
}

/// The queue of one life of the agent.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    len_max: usize,
    bytes_max: usize,
    agent_id: [u8; 16],
    epoch: u64,
    spooled: bool,
    next_seq: u64,
    durable: u64,
    sent: u64,
    /// The greatest number that gave way and that the disk holds.
    spilled: u64,
    losses: BTreeMap<&'static str, u64>,
}

impl Queue {
    /// An empty queue that holds at most so many snapshots and bytes; `spooled` when a disk holds them too.
    #[must_use]
    pub fn new(len_max: usize, bytes_max: usize, agent_id: [u8; 16], epoch: u64, spooled: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            len_max,
            bytes_max,
            agent_id,
            epoch,
            spooled,
            next_seq: 1,
            durable: 0,
            sent: 0,
            spilled: 0,
            losses: BTreeMap::new(),
        }
    }

    /// Freezes a snapshot and puts it last; `head` has all of it but its samples.
    pub fn push(&mut self, head: &Snapshot, snapshot: &impl Message) -> Arc<Frozen> {
        let bytes = snapshot.encode_to_vec();
        let time = head.time.unwrap_or_default();
        let stated: u64 = head
            .losses
            .iter()
            .filter(|loss| losses::is_of_snapshots(&loss.reason))
            .map(|loss| loss.count)
            .sum();
        let frozen = Arc::new(Frozen {
            request: PushSnapshotsRequest {
                agent_id: self.agent_id.to_vec(),
                epoch: self.epoch,
                seq: self.next_seq,
                snapshot_crc32c: crc32c::crc32c(&bytes),
                snapshot: bytes,
                backlog: false,
            },
            time_ms: time
                .seconds
                .saturating_mul(1_000)
                .saturating_add(i64::from(time.nanos / 1_000_000)),
            stated: u32::try_from(stated).unwrap_or(u32::MAX),
        });
        let on_disk = if self.spooled {
            OnDisk::Pending
        } else {
            OnDisk::Never
        };
        self.append(Arc::clone(&frozen), on_disk);
        frozen
    }

    fn append(&mut self, frozen: Arc<Frozen>, on_disk: OnDisk) {
        self.next_seq = frozen.request.seq + 1;
        self.bytes += frozen.request.snapshot.len();
        self.waiting.push_back(Waiting { frozen, on_disk });
        self.give_way();
    }

    /// Keeps the bounds.
    fn give_way(&mut self) {
        while let Some(first) = self.waiting.front() {
            let written = first.on_disk == OnDisk::Written;
            let full = self.waiting.len() > self.len_max
                || (self.bytes > self.bytes_max && self.waiting.len() > 1)
                || (written && self.waiting.len() > SPOOLED_LEN_MAX);
            if !full {
                return;
            }
            let Some(gone) = self.pop() else { return };
            match gone.on_disk {
                OnDisk::Pending | OnDisk::Written => {
                    self.spilled = gone.frozen.request.seq;
                }
                OnDisk::Never => self.lose(QUEUE_FULL, &gone.frozen),
                OnDisk::Refused(reason) => self.lose(reason, &gone.frozen),
            }
        }
    }

    fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.bytes -= first.frozen.request.snapshot.len();
        Some(first)
    }

    fn lose(&mut self, reason: &'static str, frozen: &Frozen) {
        self.lost(reason, 1 + u64::from(frozen.stated));
    }

    /// Counts snapshots that are lost.
    pub fn lost(&mut self, reason: &'static str, count: u64) {
        *self.losses.entry(reason).or_default() += count;
    }

    /// Which life this is the queue of.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How far this life is stored.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The oldest snapshot after `seq`.
    #[must_use]
    pub fn after(&self, seq: u64) -> Option<Arc<Frozen>> {
        let index = self
            .waiting
            .partition_point(|waiting| waiting.frozen.request.seq <= seq);
        self.waiting.get(index).map(|waiting| Arc::clone(&waiting.frozen))
    }

    /// A snapshot is on its way to the collector.
    pub fn sent(&mut self, seq: u64) {
        self.sent = self.sent.max(seq);
    }

    /// The collector has stored every snapshot of this life up to and with `seq`.
    pub fn stored_through(&mut self, seq: u64) {
        // Only what was sent can be stored, whatever a collector says.
        self.durable = self.durable.max(seq.min(self.next_seq - 1));
        while self
            .waiting
            .front()
            .is_some_and(|first| first.frozen.request.seq <= seq)
        {
            self.pop();
        }
    }

    /// The disk has a snapshot, or could not take it for a reason.
    pub fn on_disk(&mut self, frozen: &Frozen, outcome: Result<(), &'static str>) {
        let (epoch, seq) = (frozen.request.epoch, frozen.request.seq);
        let place = self
            .waiting
            .binary_search_by_key(&seq, |waiting| waiting.frozen.request.seq);
        let waiting = place
            .ok()
            .filter(|_| epoch == self.epoch)
            .and_then(|place| self.waiting.get_mut(place));
        match (waiting, outcome) {
            (Some(waiting), Ok(())) => {
                waiting.on_disk = OnDisk::Written;
                self.give_way();
            }
            (Some(waiting), Err(reason)) => waiting.on_disk = OnDisk::Refused(reason),
            // It gave way in memory because the disk was to have it.
            (None, Err(reason)) if epoch != self.epoch || seq > self.durable => self.lose(reason, frozen),
            (None, _) => {}
        }
    }

    /// The disk has given up what it held of a life: what is here too is lost only when it has to go.
    pub fn evicted(&mut self, epoch: u64, held: &[Held], reason: &'static str) {
        for Held { seq, count } in held.iter().copied() {
            let place = self
                .waiting
                .binary_search_by_key(&seq, |waiting| waiting.frozen.request.seq);
            match place.ok().filter(|_| epoch == self.epoch) {
                Some(place) => {
                    if let Some(waiting) = self.waiting.get_mut(place)
                        && waiting.on_disk == OnDisk::Written
                    {
                        waiting.on_disk = OnDisk::Refused(reason);
                    }
                }
                None if epoch == self.epoch && seq <= self.durable => {}
                None => self.lost(reason, count),
            }
        }
    }

    /// The oldest number that is here.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.waiting
            .front()
            .map_or(self.next_seq, |first| first.frozen.request.seq)
    }

    /// Whether so much waits that a collector that is there again should get the newest first.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.spooled && self.waiting.len() > OVERTAKE_LEN
    }

    /// Whether some of this life waits on the disk alone.
    #[must_use]
    pub fn is_spilled(&self) -> bool {
        self.spilled > self.durable
    }

    /// A new life: the disk delivers what it holds of the old one. What it does not hold and nobody has seen yet
    /// goes into the new life, and is returned so that the disk can be asked once more.
    pub fn overtake(&mut self, epoch: u64) -> Vec<Arc<Frozen>> {
        let waiting = std::mem::take(&mut self.waiting);
        let sent = self.sent;
        self.bytes = 0;
        self.epoch = epoch;
        (self.next_seq, self.durable, self.sent, self.spilled) = (1, 0, 0, 0);
        let mut again = Vec::new();
        for Waiting { frozen, on_disk } in waiting {
            match on_disk {
                OnDisk::Pending | OnDisk::Written => {}
                OnDisk::Refused(reason) if frozen.request.seq <= sent => self.lose(reason, &frozen),
                OnDisk::Never | OnDisk::Refused(_) => {
                    let mut frozen = Arc::unwrap_or_clone(frozen);
                    frozen.request.epoch = epoch;
                    frozen.request.seq = self.next_seq;
                    let frozen = Arc::new(frozen);
                    again.push(Arc::clone(&frozen));
                    self.append(frozen, OnDisk::Pending);
                }
            }
        }
        again
    }

    /// Gives up one snapshot that the collector refuses for good.
    pub fn set_aside(&mut self, seq: u64, reason: &'static str) {
        let Ok(place) = self
            .waiting
            .binary_search_by_key(&seq, |waiting| waiting.frozen.request.seq)
        else {
            return;
        };
        if let Some(gone) = self.waiting.remove(place) {
            self.bytes -= gone.frozen.request.snapshot.len();
            self.lose(reason, &gone.frozen);
        }
    }

    /// Snapshots that were lost since the last call, by reason.
    pub fn take_losses(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.losses)
    }

    /// Snapshots of this life that wait, on the disk alone too.
    #[must_use]
    pub fn len(&self) -> usize {
        let first = self.first();
        let on_disk_alone = self.spilled.min(first - 1).saturating_sub(self.durable);
        self.waiting.len() + usize::try_from(on_disk_alone).unwrap_or(usize::MAX)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Snapshots that wait and that the disk could not take: they are gone when the agent ends.
    #[must_use]
    pub fn held_alone(&self) -> usize {
        let alone = |waiting: &&Waiting| matches!(waiting.on_disk, OnDisk::Never | OnDisk::Refused(_));
        self.waiting.iter().filter(alone).count()
    }

    /// Whether the disk holds all that waits.
    #[must_use]
    pub fn is_on_disk(&self) -> bool {
        self.waiting
            .iter()
            .all(|waiting| waiting.on_disk == OnDisk::Written)
    }
}

#[cfg(test)]
mod tests;
