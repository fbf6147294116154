//! The queue within its bounds, and what it does when a disk helps it.

use procscope_proto::v1::Loss;
use proptest::prelude::*;

use super::*;

fn queue(len_max: usize, bytes_max: usize, spooled: bool) -> Queue {
    Queue::new(len_max, bytes_max, [1; 16], 9, spooled)
}

fn push(queue: &mut Queue, host: &str) -> Arc<Frozen> {
    let snapshot = Snapshot {
        host: host.to_owned(),
        ..Snapshot::default()
    };
    queue.push(&snapshot, &snapshot)
}

fn held(numbers: std::ops::RangeInclusive<u64>) -> Vec<Held> {
    numbers.map(|seq| Held { seq, count: 1 }).collect()
}

fn lost(queue: &mut Queue) -> u64 {
    queue.take_losses().values().sum()
}

#[test]
fn the_oldest_gives_way_and_is_counted() {
    let mut queue = queue(2, usize::MAX, false);
    for host in ["a", "b", "c"] {
        push(&mut queue, host);
    }
    assert_eq!((queue.len(), lost(&mut queue), lost(&mut queue)), (2, 1, 0));
    assert_eq!(queue.after(0).unwrap().request.seq, 2);
}

#[test]
fn one_snapshot_is_kept_however_large_it_is() {
    let mut queue = queue(10, 1, false);
    push(&mut queue, "a long name");
    assert_eq!(queue.len(), 1);
    push(&mut queue, "another name");
    assert_eq!((queue.len(), lost(&mut queue)), (1, 1));
}

#[test]
fn what_is_stored_leaves_and_what_is_sent_again_has_the_same_bytes() {
    let mut queue = queue(10, usize::MAX, false);
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

#[test]
fn what_a_disk_holds_gives_way_early_and_is_not_lost() {
    let mut queue = queue(LEN_MAX, usize::MAX, true);
    for _snapshot in 0..200 {
        let frozen = push(&mut queue, "a");
        queue.on_disk(&frozen, Ok(()));
    }
    assert_eq!((queue.waiting.len(), queue.len()), (SPOOLED_LEN_MAX, 200));
    assert!(queue.is_spilled() && queue.is_on_disk());
    queue.stored_through(190);
    assert_eq!(
        (queue.len(), queue.is_spilled(), lost(&mut queue)),
        (10, false, 0)
    );
}

#[test]
fn what_a_disk_refused_stays_and_is_lost_with_its_reason_when_it_has_to_go() {
    let mut queue = queue(3, usize::MAX, true);
    for _snapshot in 0..5 {
        let frozen = push(&mut queue, "a");
        queue.on_disk(&frozen, Err("spool_full"));
    }
    assert_eq!(queue.take_losses(), BTreeMap::from([("spool_full", 2)]));
    assert!(!queue.is_spilled());
}

#[test]
fn what_gave_way_for_a_disk_that_then_failed_is_lost() {
    let mut queue = queue(1, usize::MAX, true);
    let first = push(&mut queue, "a");
    push(&mut queue, "b");
    assert_eq!(lost(&mut queue), 0);
    queue.on_disk(&first, Err("spool_io"));
    assert_eq!(queue.take_losses(), BTreeMap::from([("spool_io", 1)]));
}

#[test]
fn a_new_life_takes_along_what_no_disk_has_and_nobody_was_sent() {
    let mut queue = queue(LEN_MAX, usize::MAX, true);
    let outcomes = [
        Ok(()),
        Err("spool_io"),
        Ok(()),
        Err("spool_full"),
        Err("spool_full"),
    ];
    for outcome in outcomes {
        let frozen = push(&mut queue, "a");
        queue.on_disk(&frozen, outcome);
    }
    queue.sent(2);
    let again = queue.overtake(10);
    let numbers: Vec<_> = again
        .iter()
        .map(|frozen| (frozen.request.epoch, frozen.request.seq))
        .collect();
    assert_eq!(numbers, [(10, 1), (10, 2)]);
    assert_eq!(queue.take_losses(), BTreeMap::from([("spool_io", 1)]));
    assert_eq!(
        (queue.epoch(), queue.len(), push(&mut queue, "b").request.seq),
        (10, 2, 3)
    );
}

#[test]
fn what_a_disk_has_given_up_and_memory_still_holds_is_not_lost_yet() {
    let mut queue = queue(4, usize::MAX, true);
    for _snapshot in 0..6 {
        let frozen = push(&mut queue, "a");
        queue.on_disk(&frozen, Ok(()));
    }
    queue.stored_through(1);
    queue.evicted(9, &held(1..=4), "spool_evicted");
    assert_eq!(
        queue.take_losses(),
        BTreeMap::from([("spool_evicted", 1)]),
        "2 is nowhere"
    );
    push(&mut queue, "a");
    assert_eq!(
        queue.take_losses(),
        BTreeMap::from([("spool_evicted", 1)]),
        "3 had to go"
    );
    assert_eq!(queue.overtake(10).len(), 1, "4 goes on");
    assert_eq!(lost(&mut queue), 0);
}

/// Segments give way one after the other, and between two of them another life has begun in memory that has taken
/// with it what the first of them had.
#[test]
fn what_went_on_into_the_next_life_is_not_lost_with_a_segment_that_follows() {
    let mut queue = queue(100, usize::MAX, true);
    for _snapshot in 0..6 {
        let frozen = push(&mut queue, "a");
        queue.on_disk(&frozen, Ok(()));
    }
    queue.evicted(9, &held(1..=4), "spool_evicted");
    assert_eq!(queue.overtake(10).len(), 4);
    assert_eq!(lost(&mut queue), 0);
    // Of the disk alone when it gave way: memory had left both to it.
    queue.evicted(
        9,
        &[Held { seq: 5, count: 1 }, Held { seq: 6, count: 3 }],
        "spool_evicted",
    );
    assert_eq!(queue.take_losses(), BTreeMap::from([("spool_evicted", 4)]));
    assert_eq!(queue.len(), 4);
}

#[test]
fn a_loss_is_lost_no_more_than_the_snapshot_that_states_it() {
    let mut queue = queue(1, usize::MAX, false);
    let loss = |reason: &str| Loss {
        reason: reason.to_owned(),
        count: 5,
    };
    let snapshot = Snapshot {
        losses: vec![loss(QUEUE_FULL), loss("ring_full")],
        ..Snapshot::default()
    };
    queue.push(&snapshot, &snapshot);
    push(&mut queue, "a");
    assert_eq!(queue.take_losses(), BTreeMap::from([(QUEUE_FULL, 6)]));
}

proptest! {
    #[test]
    fn it_stays_within_its_bounds_and_loses_nothing_uncounted(
        steps in proptest::collection::vec((0_usize..40, any::<bool>()), 1..100),
        len_max in 1_usize..10,
    ) {
        let mut queue = queue(len_max, 200, false);
        let (mut pushed, mut dropped, mut stored) = (0, 0, 0);
        for (size, ack) in steps {
            push(&mut queue, &"x".repeat(size));
            pushed += 1;
            dropped += lost(&mut queue);
            if ack {
                let seq = queue.after(0).unwrap().request.seq;
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
