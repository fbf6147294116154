//! Segments that give way: to the quota, to their age, to newer snapshots on a full disk; and what is stated of them.

use std::time::Instant;

use tracing::warn;

use super::{
    EVICTED, FILE_BYTES_MAX, SAID_EVERY, Spool,
    disk::Disk,
    index::Segment,
    segment::{Held, survey},
};

/// What gave way on the disk though memory may still hold it. It is not counted as lost yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaveWay {
    /// Whose snapshots they are.
    pub epoch: u64,
    /// Those that the segment had, and no others: memory may have passed on what is between them to another life.
    pub held: Vec<Held>,
}

impl<D: Disk> Spool<D> {
    pub(super) fn keep_quotas(&mut self, now: Instant) {
        while self.index.is_over(self.limits.bytes_max) && self.evict_oldest(now) {}
        while self
            .index
            .oldest_age(now)
            .is_some_and(|age| age > self.limits.age_max)
            && self.evict_oldest(now)
        {}
    }

    /// Deletes the oldest segment and states what was lost with it; `false` when there is none but that which grows.
    pub(super) fn evict_oldest(&mut self, now: Instant) -> bool {
        let current = self.current.as_ref().map(|current| current.number);
        let Some((number, segment)) = self.index.oldest().filter(|(number, _)| Some(*number) != current)
        else {
            return false;
        };
        let position = self
            .backlog
            .as_ref()
            .filter(|position| position.epoch == segment.epoch);
        let live = Some(self.live).filter(|live| live.epoch == segment.epoch);
        let durable = position
            .map(|position| position.durable)
            .or(live.map(|live| live.durable))
            .unwrap_or(0);
        let until = live.and_then(|_| self.memory_from()).unwrap_or(u64::MAX);
        // How many numbers memory has of what this segment may have.
        let numbers = segment
            .last_seq
            .map_or(0, |last| last.saturating_add(1).saturating_sub(until));
        let end = self.index.end_of(number);
        // What cannot be read is counted by its name: nobody knows of the last of an epoch how much it was.
        let by_name = end.map_or(1, |end| end.saturating_sub(segment.ordinal));
        let unreadable = || {
            let held = numbers.min(by_name);
            let last = segment.last_seq.unwrap_or(0);
            let held = (last + 1 - held..=last).map(|seq| Held { seq, count: 1 });
            let held: Vec<Held> = held.collect();
            (by_name.saturating_sub(numbers), held)
        };
        let (lost, held) = match self.disk.read(&segment.name(number), FILE_BYTES_MAX) {
            Ok(bytes) if bytes.is_empty() && end.is_none() => (0, Vec::new()),
            Ok(bytes) => {
                let survey = survey(&bytes, segment.epoch, durable, until);
                self.said.evicted_ms = match (self.said.evicted_ms, survey.time_ms) {
                    (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                    (known, None) => known,
                    (None, new) => new,
                };
                if survey.records == 0 {
                    unreadable()
                } else {
                    (survey.snapshots, survey.held)
                }
            }
            Err(_unreadable) => unreadable(),
        };
        if let Some(position) = self
            .backlog
            .as_mut()
            .filter(|position| position.epoch == segment.epoch)
        {
            position.forget(number, end);
        }
        self.lose(EVICTED, lost);
        self.said.evicted_snapshots += lost;
        self.say_evicted(now);
        self.remove(number);
        if !held.is_empty() {
            let epoch = segment.epoch;
            self.gave_way.push(GaveWay { epoch, held });
            self.mark(number, segment, end, numbers);
        }
        true
    }

    /// Leaves an empty segment in the place of one of which memory alone holds the last `held` snapshots now.
    fn mark(&mut self, number: u64, segment: Segment, end: Option<u64>, held: u64) {
        let first = segment.ordinal;
        let after = end.unwrap_or(self.live.written + 1);
        let mut marks = vec![(
            number,
            segment.clone().into_mark(after.saturating_sub(held).max(first)),
        )];
        if end.is_none() {
            // Nothing says yet how much it was.
            marks.push((self.index.next_number(), segment.into_mark(after)));
        }
        for (number, mark) in marks {
            match self.disk.create(&mark.name(number)) {
                Ok(_empty) => self.index.insert(number, mark),
                Err(_full) => self.stats.failures += 1,
            }
        }
    }

    fn say_evicted(&mut self, now: Instant) {
        let quiet = |said: Instant| now.saturating_duration_since(said) < SAID_EVERY;
        if self.said.evicted_snapshots == 0 || self.said.evicted.is_some_and(quiet) {
            return;
        }
        let time = |ms: Option<i64>| {
            ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
                .unwrap_or_default()
        };
        let (first, last) = self.said.evicted_ms.take().unzip();
        warn!(
            snapshots = std::mem::take(&mut self.said.evicted_snapshots),
            from = %time(first),
            to = %time(last),
            "the oldest snapshots in the spool gave way before a collector had stored them"
        );
        self.said.evicted = Some(now);
    }
}
