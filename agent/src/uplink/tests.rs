//! The way to the collector without one.

use procscope_proto::v1::Snapshot;

use super::*;
use crate::{
    queue::{BYTES_MAX, LEN_MAX, Queue},
    rows,
    spool::{
        Limits, Spool, Sync,
        disk::Folder,
        keeper::{self, Desk},
    },
};

fn push(outbox: &Outbox) {
    outbox.push(&mut rows::Frozen::new(
        Snapshot::default(),
        &rows::Rows::default(),
    ));
}

#[test]
fn a_wait_is_spread_over_all_of_it_but_bounded() {
    let waits: Vec<_> = (0..200).map(|_try| jitter(BACKOFF_MAX)).collect();
    assert!(waits.iter().all(|wait| *wait <= BACKOFF_MAX));
    // 200 throws leave a tenth of the range empty once in 10^9.
    for tenth in 0..10 {
        let (from, to) = (BACKOFF_MAX * tenth / 10, BACKOFF_MAX * (tenth + 1) / 10);
        assert!(
            waits.iter().any(|wait| (from..=to).contains(wait)),
            "{from:?} to {to:?}"
        );
    }
}

#[test]
fn a_collector_that_names_a_wait_is_left_alone_for_it() {
    let asked = |seconds| {
        let details = tonic_types::ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
        let status = Status::with_error_details(Code::ResourceExhausted, "", details);
        wait(&status, false, BACKOFF_MIN)
    };
    for _try in 0..50 {
        assert!((Duration::from_secs(7)..=Duration::from_secs(14)).contains(&asked(7)));
        assert!(asked(1_000_000) <= 2 * BACKOFF_ASKED_MAX);
        let refused = wait(&Status::unauthenticated(""), true, BACKOFF_MIN);
        assert!(
            (BACKOFF_REFUSED..=2 * BACKOFF_REFUSED).contains(&refused),
            "never retried fast"
        );
    }
}

#[test]
fn a_gap_in_the_middle_of_a_stream_ends_it() {
    let outbox = Outbox::new(Queue::new(2, BYTES_MAX, [1; 16], 1, false), None);
    let mut source = Live {
        outbox: &outbox,
        overtaken: false,
    };
    let push = || push(&outbox);
    push();
    assert!(matches!(source.next(0), Next::Snapshot(first) if first.seq == 1));
    for _snapshot in 0..5 {
        push();
    }
    assert!(matches!(source.next(1), Next::Gap));
    assert!(matches!(source.next(0), Next::Snapshot(first) if first.seq == 5));
}

#[test]
fn without_a_spool_no_life_is_begun() {
    let outbox = Outbox::new(Queue::new(LEN_MAX, BYTES_MAX, [1; 16], 1, false), None);
    for _snapshot in 0..500 {
        push(&outbox);
    }
    assert!(!outbox.overtake(false));
    assert_eq!(outbox.waiting(), 500);
}

#[test]
fn a_collector_that_takes_nothing_makes_no_life_of_each_try() {
    let desk = std::sync::Arc::new(crate::spool::keeper::Desk::default());
    let outbox = Outbox::new(Queue::new(LEN_MAX, BYTES_MAX, [1; 16], 1, true), Some(desk));
    let mut source = Live {
        outbox: &outbox,
        overtaken: false,
    };
    let push = || push(&outbox);
    let mut lives = std::collections::BTreeSet::new();
    for _try in 0..20 {
        (0..=crate::queue::OVERTAKE_LEN).for_each(|_| push());
        source.opened();
        lives.insert(outbox.progress().0);
    }
    assert_eq!(lives.len(), 1, "a new life once, and then no more");
    // Something is stored: the next outage may begin another.
    source.stored_through(1);
    (0..=crate::queue::OVERTAKE_LEN).for_each(|_| push());
    source.opened();
    assert!(!lives.contains(&outbox.progress().0));
}

#[test]
fn what_memory_alone_holds_is_written_before_an_orderly_end() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let limits = Limits {
            bytes_max: 1 << 20,
            age_max: Duration::from_hours(1),
            sync: Sync::Each,
        };
        let folder = Folder::open(&dir.path().join("spool")).unwrap();
        Spool::open(folder, limits, Instant::now()).unwrap()
    };
    let desk = Arc::new(Desk::default());
    let queue = Queue::new(LEN_MAX, BYTES_MAX, [1; 16], 7, true);
    let outbox = Arc::new(Outbox::new(queue, Some(Arc::clone(&desk))));
    // Nobody writes meanwhile, so the disk is too slow for some.
    for _snapshot in 0..100 {
        push(&outbox);
    }
    assert!((1..100).contains(&outbox.held_alone()));
    outbox.save();
    desk.stop();
    keeper::start(open(), desk, Arc::clone(&outbox))
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(outbox.held_alone(), 0);
    let (mut next, mut delivered) = (open(), 0);
    while let Some(batch) = next.backlog(Instant::now()).unwrap() {
        delivered += batch.requests.len();
        if let Some(last) = batch.requests.last() {
            next.stored(batch.epoch, last.seq);
        }
    }
    assert_eq!((delivered, next.take_losses().len()), (100, 0));
}
