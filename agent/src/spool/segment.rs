//! A segment as bytes: snapshots into records, and back out of whatever the disk has made of them. Pure.

use super::{
    codec,
    record::{self, HEADER_LEN, Header, Kind, MAGIC},
};
use crate::queue::Frozen;

/// Snapshots that lean on one key, at most.
const FOLLOWERS_MAX: u32 = 256;

/// A key that is longer is not written twice: a record beside gigabytes.
const COPY_MAX: usize = 1 << 20;

/// Makes the records of one segment.
#[derive(Debug, Default)]
pub struct Encoder {
    key: Option<Key>,
}

#[derive(Debug)]
struct Key {
    seq: u64,
    raw: Vec<u8>,
    /// What it cost.
    cost: usize,
    followers: u32,
    /// The shortest payload that leaned on it.
    best: usize,
    /// What the others were longer, all together: what a newer key would have spared.
    excess: usize,
}

impl Key {
    /// Snapshots have drifted so far away that staying has cost as much as a new key does.
    fn is_worn(&self) -> bool {
        self.followers >= FOLLOWERS_MAX || self.excess > self.cost
    }
}

impl Encoder {
    /// Appends the records of a snapshot to `out`; `false`, and nothing appended, when it is too long.
    #[must_use]
    pub fn encode(&mut self, frozen: &Frozen, ordinal: u64, durable: u64, out: &mut Vec<u8>) -> bool {
        let request = &frozen.request;
        let Ok(agent_id) = <[u8; 16]>::try_from(request.agent_id.as_slice()) else {
            return false;
        };
        let raw = &request.snapshot;
        if raw.len() > record::RAW_MAX {
            return false;
        }
        if self.key.as_ref().is_some_and(Key::is_worn) {
            self.key = None;
        }
        let mut header = Header {
            kind: Kind::Delta,
            raw_len: raw.len(),
            agent_id,
            epoch: request.epoch,
            seq: request.seq,
            ordinal,
            durable,
            time_ms: frozen.time_ms,
            key_seq: request.seq,
            stated: frozen.stated,
            raw_crc: request.snapshot_crc32c,
        };
        let Some(payload) = codec::compress(raw, self.key.as_ref().map(|key| key.raw.as_slice())) else {
            return false;
        };
        if let Some(key) = &mut self.key {
            header.key_seq = key.seq;
            key.followers += 1;
            key.best = key.best.min(payload.len());
            key.excess += payload.len() - key.best;
            return record::write(&header, &payload, out);
        }
        header.kind = Kind::Key;
        let start = out.len();
        if !record::write(&header, &payload, out) {
            return false;
        }
        if payload.len() <= COPY_MAX {
            header.kind = Kind::KeyCopy;
            // As long as the record before it, so it fits too.
            if !record::write(&header, &payload, out) {
                return false;
            }
        }
        self.key = Some(Key {
            seq: request.seq,
            raw: raw.clone(),
            cost: out.len() - start,
            followers: 0,
            best: usize::MAX,
            excess: 0,
        });
        true
    }
}

/// What the headers of a segment say together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Survey {
    /// How far the epoch is known to be stored.
    pub durable: u64,
    /// Records, whatever they hold.
    pub records: u64,
    /// Snapshots after that, and what they state as lost themselves.
    pub snapshots: u64,
    /// Those that memory holds too, with what is lost when it has to let them go.
    pub held: Vec<Held>,
    /// The drain instants of the first and the last of them, in milliseconds since 1970.
    pub time_ms: Option<(i64, i64)>,
}

/// A snapshot that memory may hold besides the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub seq: u64,
    /// It, and the lost snapshots that it states.
    pub count: u64,
}

/// Looks at the headers of an epoch's segment; `durable`: how far it is known to be stored in any case. From `until`
/// on memory holds its numbers too.
#[must_use]
pub fn survey(bytes: &[u8], epoch: u64, durable: u64, until: u64) -> Survey {
    let headers = || {
        let mut at = 0;
        std::iter::from_fn(move || {
            loop {
                let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
                if let Some(framed) = record::frame(rest) {
                    at += framed.record_len();
                    return Some(framed.header);
                }
                at = next_magic(bytes, at);
            }
        })
        .filter(|header| header.epoch == epoch)
    };
    let durable = headers().map(|header| header.durable).fold(durable, u64::max);
    let mut survey = Survey {
        durable,
        ..Survey::default()
    };
    let mut last = durable;
    for header in headers() {
        survey.records += 1;
        if header.seq <= last {
            continue;
        }
        last = header.seq;
        let count = 1 + u64::from(header.stated);
        if header.seq >= until {
            survey.held.push(Held {
                seq: header.seq,
                count,
            });
            continue;
        }
        survey.snapshots += count;
        let (first, _) = survey.time_ms.unwrap_or((header.time_ms, header.time_ms));
        survey.time_ms = Some((first, header.time_ms));
    }
    survey
}

/// The next place after `at` that could be the beginning of a record.
fn next_magic(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let next = rest.windows(MAGIC.len()).position(|window| window == MAGIC);
    next.map_or(bytes.len(), |next| at + 1 + next)
}

/// Reads an epoch's segment from its beginning, whatever its bytes are: gives the snapshots that are whole, once
/// each, in rising order. Never allocates more than a record may hold.
#[derive(Debug)]
pub struct Reader {
    bytes: Vec<u8>,
    epoch: u64,
    at: usize,
    /// Bytes that may still be summed up: records that lie within each other must not make this take for ever.
    work: usize,
    key: Option<(u64, Vec<u8>)>,
    /// The newest record was a key, so what comes next is its copy.
    copy_due: bool,
    read: u64,
    passed: u64,
    seen: u64,
    torn: bool,
}

impl Reader {
    /// At the beginning; gives what comes after `after`.
    #[must_use]
    pub fn new(bytes: Vec<u8>, epoch: u64, after: u64) -> Self {
        Self {
            work: bytes.len().saturating_mul(4).saturating_add(1 << 16),
            bytes,
            epoch,
            at: 0,
            key: None,
            copy_due: false,
            read: after,
            passed: 0,
            seen: 0,
            torn: false,
        }
    }

    /// The greatest ordinal of those that were not asked for.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// The greatest ordinal that was seen, also on records that could not be read.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether what was seen last is no record, so that nobody knows what it was.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn expand(&self, header: &Header, payload: &[u8]) -> Option<Vec<u8>> {
        let key = match header.kind {
            Kind::Delta => Some(&self.key.as_ref().filter(|(seq, _)| *seq == header.key_seq)?.1),
            Kind::Key | Kind::KeyCopy => None,
        };
        let raw = codec::expand(payload, key.map(Vec::as_slice), header.raw_len)?;
        (crc32c::crc32c(&raw) == header.raw_crc).then_some(raw)
    }
}

impl Iterator for Reader {
    type Item = (Header, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest().is_empty() {
            let copy_due = std::mem::take(&mut self.copy_due);
            self.work = self.work.saturating_sub(HEADER_LEN);
            let framed = record::frame(self.rest()).filter(|framed| framed.header.epoch == self.epoch);
            let Some(framed) = framed else {
                self.at = next_magic(&self.bytes, self.at);
                // What is torn right behind a key is its copy: nothing is lost with it.
                self.torn = !copy_due;
                continue;
            };
            let header = framed.header;
            self.torn = false;
            self.seen = self.seen.max(header.ordinal);
            self.work = self.work.saturating_sub(framed.record_len());
            let Some(payload) = framed.payload(self.rest()).map(<[u8]>::to_vec) else {
                // Another record may stand where its payload should: a disk that lied about a write has left bytes
                // out. When too much of that was tried the header is believed.
                self.at = if self.work > 0 {
                    next_magic(&self.bytes, self.at)
                } else {
                    self.bytes.len().min(self.at + framed.record_len())
                };
                continue;
            };
            self.at += framed.record_len();
            let known = header.seq <= self.read;
            if known {
                self.passed = self.passed.max(header.ordinal);
            }
            let held = self.key.as_ref().is_some_and(|(seq, _)| *seq == header.seq);
            if held || (known && header.kind == Kind::Delta) {
                continue;
            }
            let Some(raw) = self.expand(&header, &payload) else {
                continue;
            };
            if header.kind != Kind::Delta {
                self.copy_due = header.kind == Kind::Key;
                self.key = Some((header.seq, raw.clone()));
            }
            if !known {
                self.read = header.seq;
                return Some((header, raw));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
