//! Frozen snapshots that wait for the collector: bounded, the oldest gives way and is counted. Pure.
//!
//! The spool on disk will stand between this queue and the uplink: both hand on the same frozen bytes.

use std::{collections::VecDeque, sync::Arc};

use procscope_proto::v1::PushSnapshotsRequest;
use prost::Message;

/// Snapshots of an hour at one a second.
pub const LEN_MAX: usize = 3600;
/// Memory that waiting snapshots may take.
pub const BYTES_MAX: usize = 12 << 20;

/// The queue.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<Arc<PushSnapshotsRequest>>,
    bytes: usize,
    len_max: usize,
    bytes_max: usize,
    next_seq: u64,
    dropped: u64,
}

impl Queue {
    /// An empty queue that holds at most so many snapshots and bytes.
    #[must_use]
    pub fn new(len_max: usize, bytes_max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            len_max,
            bytes_max,
            next_seq: 1,
            dropped: 0,
        }
    }

    /// Freezes a snapshot: from here on these are its bytes, whoever sends them, however often.
    pub fn push(&mut self, agent_id: [u8; 16], epoch: u64, snapshot: &impl Message) {
        let bytes = snapshot.encode_to_vec();
        let request = PushSnapshotsRequest {
            agent_id: agent_id.to_vec(),
            epoch,
            seq: self.next_seq,
            snapshot_crc32c: crc32c::crc32c(&bytes),
            snapshot: bytes,
            backlog: false,
        };
        self.next_seq += 1;
        self.bytes += request.snapshot.len();
        self.waiting.push_back(Arc::new(request));
        while self.waiting.len() > self.len_max || (self.bytes > self.bytes_max && self.waiting.len() > 1) {
            self.pop();
            self.dropped += 1;
        }
    }

    /// The oldest snapshot after `seq`.
    #[must_use]
    pub fn after(&self, seq: u64) -> Option<Arc<PushSnapshotsRequest>> {
        let first = self.waiting.front()?.seq;
        let index = usize::try_from((seq + 1).saturating_sub(first)).ok()?;
        self.waiting.get(index).cloned()
    }

    /// The collector has stored every snapshot up to and with `seq`.
    pub fn stored_through(&mut self, seq: u64) {
        while self.waiting.front().is_some_and(|front| front.seq <= seq) {
            self.pop();
        }
    }

    /// Snapshots that gave way since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Snapshots that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn pop(&mut self) {
        if let Some(front) = self.waiting.pop_front() {
            self.bytes -= front.snapshot.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use procscope_proto::v1::Snapshot;
    use proptest::prelude::*;

    use super::*;

    fn push(queue: &mut Queue, host: &str) {
        queue.push(
            [1; 16],
            9,
            &Snapshot {
                host: host.to_owned(),
                ..Snapshot::default()
            },
        );
    }

    #[test]
    fn the_oldest_gives_way_and_is_counted() {
        let mut queue = Queue::new(2, usize::MAX);
        for host in ["a", "b", "c"] {
            push(&mut queue, host);
        }
        assert_eq!(
            (queue.len(), queue.take_dropped(), queue.take_dropped()),
            (2, 1, 0)
        );
        assert_eq!(queue.after(0).unwrap().seq, 2);
    }

    #[test]
    fn one_snapshot_is_kept_however_large_it_is() {
        let mut queue = Queue::new(10, 1);
        push(&mut queue, "a long name");
        assert_eq!(queue.len(), 1);
        push(&mut queue, "another name");
        assert_eq!((queue.len(), queue.take_dropped()), (1, 1));
    }

    #[test]
    fn what_is_stored_leaves_and_what_is_sent_again_has_the_same_bytes() {
        let mut queue = Queue::new(10, usize::MAX);
        for host in ["a", "b", "c"] {
            push(&mut queue, host);
        }
        let first = queue.after(1).unwrap();
        queue.stored_through(1);
        assert_eq!(queue.after(1).unwrap(), first);
        assert_eq!(queue.len(), 2);
        queue.stored_through(99);
        assert!(queue.is_empty() && queue.after(3).is_none());
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_loses_nothing_uncounted(
            steps in proptest::collection::vec((0_usize..40, any::<bool>()), 1..100),
            len_max in 1_usize..10,
        ) {
            let mut queue = Queue::new(len_max, 200);
            let (mut pushed, mut dropped, mut stored) = (0, 0, 0);
            for (size, ack) in steps {
                push(&mut queue, &"x".repeat(size));
                pushed += 1;
                dropped += queue.take_dropped();
                if ack {
                    let seq = queue.after(0).unwrap().seq;
                    let before = queue.len();
                    queue.stored_through(seq);
                    stored += u64::try_from(before - queue.len()).unwrap();
                }
                prop_assert!(queue.len() <= len_max);
                prop_assert!(queue.bytes <= 200 || queue.len() == 1);
                prop_assert_eq!(pushed, dropped + stored + u64::try_from(queue.len()).unwrap());
            }
        }
    }
}
