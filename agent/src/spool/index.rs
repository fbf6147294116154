//! Which segments there are, by their names. Pure, but for the one listing at the start.
//!
//! A name says what has to be known without reading: `number-epoch-ordinal.v1`, in hexadecimal digits. Numbers rise over all lives, an
//! ordinal is that of the segment's first snapshot within its epoch.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use super::disk::Disk;

/// Entries of the folder that are looked at.
const ENTRIES_MAX: usize = 200_000;
/// Segments that are kept in mind; an agent that is killed every five seconds for a day leaves as many.
pub const SEGMENTS_MAX: usize = 16_384;
const SUFFIX: &str = ".v1";

/// What is known of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Whose snapshots it holds.
    pub epoch: u64,
    /// Ordinal of the first of them.
    pub ordinal: u64,
    /// Its length.
    pub bytes: u64,
    /// The greatest number in it; `None` while nobody has read it.
    pub last_seq: Option<u64>,
    /// It holds nothing any more: memory alone has its snapshots, and a kill would leave a gap in its place.
    pub is_mark: bool,
    written: Instant,
    older: Duration,
}

impl Segment {
    /// One that begins.
    #[must_use]
    pub fn new(epoch: u64, ordinal: u64, now: Instant) -> Self {
        Self {
            epoch,
            ordinal,
            bytes: 0,
            last_seq: None,
            is_mark: false,
            written: now,
            older: Duration::ZERO,
        }
    }

    /// What is left in its place when it gives way: from `ordinal` on memory holds what was in it.
    #[must_use]
    pub fn into_mark(self, ordinal: u64) -> Self {
        Self {
            ordinal,
            bytes: 0,
            is_mark: true,
            ..self
        }
    }

    /// Its file's name.
    #[must_use]
    pub fn name(&self, number: u64) -> String {
        format!("{number:016x}-{:016x}-{:016x}{SUFFIX}", self.epoch, self.ordinal)
    }
}

/// Number, epoch and ordinal of a name; `None`: it is none of ours.
fn parse(name: &str) -> Option<(u64, u64, u64)> {
    let mut parts = name.strip_suffix(SUFFIX)?.split('-').map(|part| {
        let digits = part.len() == 16 && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        digits.then(|| u64::from_str_radix(part, 16).ok()).flatten()
    });
    let found = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(found)
}

/// All segments, oldest first.
#[derive(Debug, Default)]
pub struct Index {
    segments: BTreeMap<u64, Segment>,
    bytes: u64,
    number: u64,
}

impl Index {
    /// Lists a folder; with it the number of files that are none of ours.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn read(disk: &mut impl Disk, bytes_max: u64, now: Instant) -> io::Result<(Self, usize)> {
        let mut index = Self::default();
        let mut strangers = 0;
        let whole = disk.list(ENTRIES_MAX, &mut |entry| {
            let known = parse(&entry.name).filter(|_| entry.bytes <= bytes_max);
            // The last number is the writer's end: nothing could follow it.
            let Some((number, epoch, ordinal)) = known.filter(|(number, ..)| *number < u64::MAX) else {
                strangers += 1;
                return;
            };
            index.insert(
                number,
                Segment {
                    bytes: entry.bytes,
                    older: entry.age,
                    ..Segment::new(epoch, ordinal, now)
                },
            );
        })?;
        if !whole {
            strangers += 1;
        }
        Ok((index, strangers))
    }

    /// The number of the next segment.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.number.saturating_add(1)
    }

    /// Takes a segment in.
    pub fn insert(&mut self, number: u64, segment: Segment) {
        self.number = self.number.max(number);
        self.bytes += segment.bytes;
        if let Some(former) = self.segments.insert(number, segment) {
            self.bytes -= former.bytes;
        }
    }

    /// A segment.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Segment> {
        self.segments.get(&number)
    }

    /// Takes a segment out.
    pub fn remove(&mut self, number: u64) -> Option<Segment> {
        let segment = self.segments.remove(&number)?;
        self.bytes -= segment.bytes;
        Some(segment)
    }

    /// A segment has grown by a snapshot.
    pub fn grow(&mut self, number: u64, bytes: u64, seq: u64, now: Instant) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.bytes += bytes;
            segment.last_seq = segment.last_seq.max(Some(seq));
            segment.written = now;
            self.bytes += bytes;
        }
    }

    /// A segment was read up to its end, where this number stands.
    pub fn note_end(&mut self, number: u64, seq: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.last_seq = segment.last_seq.max(Some(seq));
        }
    }

    /// Segments of an epoch of which everything is stored.
    #[must_use]
    pub fn stored(&self, epoch: u64, durable: u64) -> Vec<u64> {
        self.segments
            .iter()
            .filter(|(_, segment)| {
                segment.epoch == epoch && segment.last_seq.is_some_and(|seq| seq <= durable)
            })
            .map(|(number, _)| *number)
            .collect()
    }

    /// The oldest segment that may hold something.
    #[must_use]
    pub fn oldest(&self) -> Option<(u64, Segment)> {
        let (number, segment) = self.segments.iter().find(|(_, segment)| !segment.is_mark)?;
        Some((*number, segment.clone()))
    }

    /// Marks for which this holds.
    #[must_use]
    pub fn marks(&self, is_meant: impl Fn(&Segment) -> bool) -> Vec<u64> {
        let marks = self
            .segments
            .iter()
            .filter(|(_, segment)| segment.is_mark && is_meant(segment));
        marks.map(|(number, _)| *number).collect()
    }

    /// How long nothing was written into the oldest.
    #[must_use]
    pub fn oldest_age(&self, now: Instant) -> Option<Duration> {
        let (_, segment) = self.oldest()?;
        Some(segment.older + now.saturating_duration_since(segment.written))
    }

    /// Whether there are more bytes than these, or more segments than are kept in mind.
    #[must_use]
    pub fn is_over(&self, bytes_max: u64) -> bool {
        self.bytes > bytes_max || self.segments.len() > SEGMENTS_MAX
    }

    /// The epoch that ended last.
    #[must_use]
    pub fn newest_epoch_but(&self, live: u64) -> Option<u64> {
        let mut epochs = self.segments.values().rev().map(|segment| segment.epoch);
        epochs.find(|epoch| *epoch != live)
    }

    /// The first segment of an epoch after this one.
    #[must_use]
    pub fn next_of(&self, epoch: u64, after: Option<u64>) -> Option<(u64, Segment)> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let mut segments = self.segments.range(from..);
        let (number, segment) = segments.find(|(_, segment)| segment.epoch == epoch)?;
        Some((*number, segment.clone()))
    }

    /// The ordinal at which a segment's successor begins, where there is one.
    #[must_use]
    pub fn end_of(&self, number: u64) -> Option<u64> {
        let epoch = self.segments.get(&number)?.epoch;
        Some(self.next_of(epoch, Some(number))?.1.ordinal)
    }

    /// Snapshots of all epochs but one, as far as names tell: of an epoch's last segment they tell of one.
    #[must_use]
    pub fn snapshots_but(&self, live: u64) -> u64 {
        let mut next: Option<&Segment> = None;
        let mut snapshots: u64 = 0;
        for segment in self.segments.values().rev() {
            if segment.epoch != live {
                let follower = next.filter(|next| next.epoch == segment.epoch);
                let known = follower.map_or(1, |next| next.ordinal.saturating_sub(segment.ordinal));
                snapshots = snapshots.saturating_add(known);
            }
            next = Some(segment);
        }
        snapshots
    }

    /// Length of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.segments.len()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_holds_and_another_name_is_none_of_ours() {
        let segment = Segment::new(u64::MAX, 7, Instant::now());
        assert_eq!(parse(&segment.name(1)), Some((1, u64::MAX, 7)));
        for name in [
            "",
            ".v1",
            "probe",
            "0000000000000001-0000000000000002-0000000000000003.v2",
            "0000000000000001-0000000000000002.v1",
            "0000000000000001-0000000000000002-0000000000000003-0000000000000004.v1",
            "1-2-3.v1",
            "+000000000000001-0000000000000002-0000000000000003.v1",
            "000000000000000A-0000000000000002-0000000000000003.v1",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn what_waits_is_counted_by_names() {
        let mut index = Index::default();
        for (number, epoch, ordinal) in [(1, 1, 1), (2, 1, 51), (3, 2, 1), (4, 3, 1)] {
            index.insert(number, Segment::new(epoch, ordinal, Instant::now()));
        }
        assert_eq!(index.snapshots_but(3), 50 + 1 + 1);
        assert_eq!(index.newest_epoch_but(3), Some(2));
        assert_eq!((index.end_of(1), index.end_of(2)), (Some(51), None));
    }
}
