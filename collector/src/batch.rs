//! When a batch closes. Pure: time is an argument.
//!
//! A batch holds whole snapshots of one day, because an insert is atomic only within one partition and one block.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{model::Snapshot, store::StoredIn};

/// What a batch may hold before it closes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows of all tables.
    pub rows_max: usize,
    /// With so many rows by the time it is due a batch waits for more: larger inserts cost the store less a row.
    pub rows_many: usize,
    /// Encoded bytes of the snapshots.
    pub bytes_max: usize,
    /// How long the first snapshot waits.
    pub age_max: Duration,
    /// How long it waits when many rows come.
    pub age_max_of_many: Duration,
    /// Days that may be open at once: an agent with a backlog, or with a wrong clock, brings several.
    pub days_max: usize,
}

/// A snapshot on its way to the store, with whatever has to live as long.
#[derive(Debug)]
pub struct Pending<G> {
    /// What is to be stored.
    pub snapshot: Snapshot,
    /// Tables that have it already.
    pub stored: StoredIn,
    /// Held until the snapshot is stored, for instance its share of the memory budget.
    pub guard: G,
}

/// Whole snapshots of one day, in the order of arrival.
#[derive(Debug)]
pub struct Batch<G> {
    /// The snapshots; never empty.
    pub snapshots: Vec<Pending<G>>,
}

impl<G> Batch<G> {
    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.snapshots.iter().map(|pending| pending.snapshot.rows()).sum()
    }
}

/// Collects snapshots into batches.
#[derive(Debug)]
pub struct Batcher<G> {
    limits: Limits,
    open: BTreeMap<i64, Batch<G>>,
    rows: usize,
    bytes: usize,
    opened_at: Option<Instant>,
}

impl<G> Batcher<G> {
    /// An empty batcher.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: BTreeMap::new(),
            rows: 0,
            bytes: 0,
            opened_at: None,
        }
    }

    /// Takes a snapshot; gives the batches that had to close, either to make room or because they are full now.
    #[must_use = "closed batches are to be written"]
    pub fn add(&mut self, pending: Pending<G>, now: Instant) -> Vec<Batch<G>> {
        let (rows, bytes, day) = (
            pending.snapshot.rows(),
            pending.snapshot.encoded.len(),
            pending.snapshot.day(),
        );
        let fits = self.rows + rows <= self.limits.rows_max
            && self.bytes + bytes <= self.limits.bytes_max
            && (self.open.contains_key(&day) || self.open.len() < self.limits.days_max);
        let mut closed = if fits { Vec::new() } else { self.close() };
        self.rows += rows;
        self.bytes += bytes;
        self.opened_at.get_or_insert(now);
        self.open
            .entry(day)
            .or_insert_with(|| Batch {
                snapshots: Vec::new(),
            })
            .snapshots
            .push(pending);
        if self.rows >= self.limits.rows_max || self.bytes >= self.limits.bytes_max {
            closed.append(&mut self.close());
        }
        closed
    }

    /// Gives the batches that are due at `now`.
    #[must_use = "closed batches are to be written"]
    pub fn tick(&mut self, now: Instant) -> Vec<Batch<G>> {
        match self.due() {
            Some(due) if due <= now => self.close(),
            _ => Vec::new(),
        }
    }

    /// Closes everything, oldest day first.
    #[must_use = "closed batches are to be written"]
    pub fn close(&mut self) -> Vec<Batch<G>> {
        (self.rows, self.bytes, self.opened_at) = (0, 0, None);
        std::mem::take(&mut self.open).into_values().collect()
    }

    /// When the open batches have to close; `None` when nothing waits.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let age_max = if self.rows < self.limits.rows_many {
            self.limits.age_max
        } else {
            self.limits.age_max_of_many
        };
        self.opened_at.map(|opened_at| opened_at + age_max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{MS_PER_DAY, fixtures::snapshot};

    const LIMITS: Limits = Limits {
        rows_max: 10,
        rows_many: 6,
        bytes_max: 1_000,
        age_max: Duration::from_millis(500),
        age_max_of_many: Duration::from_millis(1_500),
        days_max: 3,
    };

    fn pending(seq: u64, day: i64, samples: usize) -> Pending<()> {
        let mut snapshot = snapshot(seq);
        snapshot.time_ms = day * MS_PER_DAY;
        snapshot.samples = vec![snapshot.samples[0].clone(); samples];
        Pending {
            snapshot,
            stored: StoredIn::default(),
            guard: (),
        }
    }

    fn seqs(batches: &[Batch<()>]) -> Vec<Vec<u64>> {
        batches
            .iter()
            .map(|batch| batch.snapshots.iter().map(|p| p.snapshot.seq).collect())
            .collect()
    }

    #[test]
    fn a_batch_closes_by_age() {
        let start = Instant::now();
        let mut batcher = Batcher::new(LIMITS);
        assert!(batcher.add(pending(1, 0, 1), start).is_empty());
        assert!(
            batcher
                .add(pending(2, 0, 1), start + Duration::from_millis(499))
                .is_empty()
        );
        assert!(batcher.tick(start + Duration::from_millis(499)).is_empty());
        assert_eq!(seqs(&batcher.tick(start + Duration::from_millis(500))), [[1, 2]]);
        assert_eq!(batcher.due(), None);
    }

    #[test]
    fn a_batch_of_many_rows_waits_for_more_but_not_for_long() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut batcher = Batcher::new(LIMITS);
        assert!(batcher.add(pending(1, 0, 4), start).is_empty());
        assert_eq!(batcher.due(), Some(after(500)), "few rows");
        assert!(batcher.add(pending(2, 0, 0), after(400)).is_empty());
        assert!(batcher.tick(after(1_499)).is_empty());
        assert_eq!(seqs(&batcher.tick(after(1_500))), [[1, 2]]);
    }

    #[test]
    fn a_full_batch_closes_at_once() {
        let mut batcher = Batcher::new(LIMITS);
        assert_eq!(seqs(&batcher.add(pending(1, 0, 9), Instant::now())), [[1]]);
    }

    #[test]
    fn what_does_not_fit_waits_for_the_next_batch() {
        let mut batcher = Batcher::new(LIMITS);
        assert!(batcher.add(pending(1, 0, 5), Instant::now()).is_empty());
        assert_eq!(seqs(&batcher.add(pending(2, 0, 5), Instant::now())), [[1]]);
        assert_eq!(seqs(&batcher.close()), [[2]]);
    }

    #[test]
    fn days_are_apart_and_bounded() {
        let mut batcher = Batcher::new(LIMITS);
        for (seq, day) in [(1, 5), (2, 4), (3, 5), (4, 6)] {
            assert!(batcher.add(pending(seq, day, 0), Instant::now()).is_empty());
        }
        assert_eq!(
            seqs(&batcher.add(pending(5, 7, 0), Instant::now())),
            [vec![2], vec![1, 3], vec![4]]
        );
    }

    proptest! {
        #[test]
        fn every_snapshot_leaves_once_whole_in_order_and_within_one_day(
            arrivals in prop::collection::vec((0_i64..5, 0_usize..15, 0_u64..400), 0..60),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut batcher = Batcher::new(LIMITS);
            let mut closed = Vec::new();
            for (seq, (day, samples, wait_ms)) in (0_u64..).zip(&arrivals) {
                now += Duration::from_millis(*wait_ms);
                closed.extend(batcher.tick(now));
                prop_assert!(batcher.due().is_none_or(|due| due > now), "nothing overdue stays");
                closed.extend(batcher.add(pending(seq, *day, *samples), now));
            }
            closed.extend(batcher.close());
            let mut seen = Vec::new();
            for batch in &closed {
                prop_assert!(!batch.snapshots.is_empty());
                prop_assert!(batch.rows() <= LIMITS.rows_max || batch.snapshots.len() == 1);
                let day = batch.snapshots[0].snapshot.day();
                prop_assert!(batch.snapshots.iter().all(|p| p.snapshot.day() == day));
                let order: Vec<u64> = batch.snapshots.iter().map(|p| p.snapshot.seq).collect();
                prop_assert!(order.is_sorted());
                seen.extend(order);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..arrivals.len()).map(|n| u64::try_from(n).unwrap()).collect::<Vec<_>>());
        }
    }
}
