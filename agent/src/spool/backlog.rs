//! What earlier lives have left, read back for the collector: the newest epoch first, each in its own order, and
//! what is missing counted once.

use std::{io, time::Instant};

use procscope_proto::v1::PushSnapshotsRequest;

use super::{
    CORRUPT, FILE_BYTES_MAX, Spool,
    disk::Disk,
    index::Index,
    segment::{Reader, survey},
};

/// Bytes of snapshots that are read at a time, as they go over the wire.
const BATCH_BYTES: usize = 1 << 20;
/// Snapshots that are read at a time.
const BATCH_LEN: usize = 64;

/// Some snapshots of an epoch that has ended, in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// The epoch.
    pub epoch: u64,
    /// Ready to be sent; empty: all of the epoch was handed out.
    pub requests: Vec<PushSnapshotsRequest>,
}

/// How far the backlog is read.
#[derive(Debug)]
pub(super) struct Position {
    pub(super) epoch: u64,
    /// Stored up to here.
    pub(super) durable: u64,
    /// Handed out up to here.
    handed: u64,
    /// The segment that is being read.
    segment: Option<(u64, Reader)>,
    /// Segments up to here are read.
    done: Option<u64>,
    /// Ordinal of what was read last; `None`: nothing was.
    ordinal: Option<u64>,
    /// What is missing up to this ordinal is counted.
    counted: u64,
    /// The newest bytes were no record.
    torn: bool,
    torn_counted: bool,
}

impl Position {
    fn new(epoch: u64) -> Self {
        Self {
            epoch,
            durable: 0,
            handed: 0,
            segment: None,
            done: None,
            ordinal: None,
            counted: 0,
            torn: false,
            torn_counted: false,
        }
    }

    /// The segment that is being read.
    pub(super) fn reading(&self) -> Option<u64> {
        Some(self.segment.as_ref()?.0)
    }

    /// A segment gives way, and all of it that is not stored is counted.
    pub(super) fn forget(&mut self, number: u64, end: Option<u64>) {
        if let Some(end) = end {
            self.counted = self.counted.max(end.saturating_sub(1));
        } else {
            self.torn_counted = true;
        }
        if self.reading() == Some(number) {
            self.segment = None;
            self.done = self.done.max(Some(number));
            self.torn = false;
        }
    }

    /// Counts what is missing before an ordinal, and before a number: what has none between that and what was handed
    /// out or is stored cannot be missing.
    fn missing_before(&mut self, ordinal: u64, seq: u64) -> u64 {
        let missing = ordinal
            .saturating_sub(1)
            .saturating_sub(self.ordinal.unwrap_or(0).max(self.counted))
            .min(seq.saturating_sub(1).saturating_sub(self.handed));
        if missing > 0 {
            self.counted = ordinal - 1;
        }
        missing
    }

    fn passed(&mut self, ordinal: u64) {
        self.ordinal = self.ordinal.max(Some(ordinal));
    }

    /// What is missing at the end of the epoch, once: nobody knows how much was torn, but something was.
    fn missing_at_end(&mut self, seen: u64) -> u64 {
        let missing = self.missing_before(seen.saturating_add(1), u64::MAX);
        self.passed(seen);
        let torn = std::mem::take(&mut self.torn) && !std::mem::replace(&mut self.torn_counted, true);
        missing + u64::from(torn)
    }

    /// From the first segment that is left, past what is stored.
    fn rewind(&mut self) {
        (self.segment, self.done, self.handed, self.torn) = (None, None, self.durable, false);
        self.ordinal = None;
    }
}

impl<D: Disk> Spool<D> {
    /// The next snapshots of the newest epoch that has ended, and that is not stored to its end; `None` when there
    /// is none. What is handed out waits for `stored`; an empty batch says that nothing follows.
    ///
    /// # Errors
    /// When the disk could not be read now, but perhaps later.
    pub fn backlog(&mut self, now: Instant) -> io::Result<Option<Batch>> {
        let over = |index: &Index, position: &Position| index.next_of(position.epoch, None).is_none();
        if self
            .backlog
            .as_ref()
            .is_some_and(|position| over(&self.index, position))
        {
            self.backlog = None;
        }
        let position = self.backlog.take();
        let newest = || Some(Position::new(self.index.newest_epoch_but(self.live.epoch)?));
        let Some(mut position) = position.or_else(newest) else {
            return Ok(None);
        };
        let epoch = position.epoch;
        let requests = self.read(&mut position, now);
        self.backlog = Some(position);
        let requests = requests?;
        if requests.is_empty() {
            // What could not be read goes now, so that the next call finds another epoch.
            self.remove_stored();
        }
        Ok(Some(Batch { epoch, requests }))
    }

    fn read(&mut self, position: &mut Position, now: Instant) -> io::Result<Vec<PushSnapshotsRequest>> {
        let mut requests = Vec::new();
        let mut bytes = 0;
        while requests.len() < BATCH_LEN && bytes < BATCH_BYTES {
            let segment = match position.segment.take() {
                Some(segment) => Some(segment),
                None => self.next_segment(position, now)?,
            };
            let Some((number, mut reader)) = segment else {
                break;
            };
            let Some((header, raw)) = reader.next() else {
                position.passed(reader.passed());
                position.torn = reader.is_torn();
                let last = self.index.end_of(number).is_none();
                if last {
                    let before = self
                        .index
                        .get(number)
                        .map_or(0, |last| last.ordinal.saturating_sub(1));
                    let missing = position.missing_at_end(reader.seen().max(before));
                    self.lose(CORRUPT, missing);
                }
                position.done = Some(number);
                self.index.note_end(number, position.handed);
                continue;
            };
            position.passed(reader.passed());
            let missing = position.missing_before(header.ordinal, header.seq);
            self.lose(CORRUPT, missing);
            position.passed(header.ordinal);
            position.handed = header.seq;
            position.segment = Some((number, reader));
            bytes += raw.len();
            self.stats.read += 1;
            requests.push(PushSnapshotsRequest {
                agent_id: header.agent_id.to_vec(),
                epoch: header.epoch,
                seq: header.seq,
                snapshot_crc32c: header.raw_crc,
                snapshot: raw,
                backlog: true,
            });
        }
        Ok(requests)
    }

    fn next_segment(&mut self, position: &mut Position, now: Instant) -> io::Result<Option<(u64, Reader)>> {
        loop {
            let Some((number, segment)) = self.index.next_of(position.epoch, position.done) else {
                return Ok(None);
            };
            if position.ordinal.is_none() {
                // The first that is left: what was before it is stored, or has given way.
                position.passed(segment.ordinal.saturating_sub(1));
            }
            match self.disk.read(&segment.name(number), FILE_BYTES_MAX) {
                Ok(bytes) => {
                    let known = survey(&bytes, segment.epoch, position.durable, u64::MAX);
                    let after = position.handed.max(known.durable);
                    position.durable = position.durable.max(known.durable);
                    position.handed = position.handed.max(position.durable);
                    let reader = Reader::new(bytes, segment.epoch, after);
                    return Ok(Some((number, reader)));
                }
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => return Err(error),
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EMFILE | libc::ENFILE | libc::EINTR)
                    ) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    self.failed("read", &error, now);
                    // What follows says how much it was; when nothing does, it was something.
                    if self.index.end_of(number).is_none() {
                        position.torn = true;
                        let missing = position.missing_at_end(segment.ordinal.saturating_sub(1));
                        self.lose(CORRUPT, missing);
                    }
                    self.remove(number);
                }
            }
        }
    }

    /// The stream to the collector has ended: what was handed out and is not stored has to be handed out once more.
    pub fn rewind(&mut self) {
        if let Some(position) = &mut self.backlog {
            position.rewind();
        }
        self.remove_stored();
    }

    /// The collector refuses a snapshot for good: it is lost, and what follows is handed out.
    pub fn set_aside(&mut self, epoch: u64, seq: u64, reason: &'static str) {
        self.lose(reason, 1);
        self.stored(epoch, seq);
    }
}
