//! Calls that fail, one by one and for good; files that vanish or are torn.

use super::*;

/// Every snapshot is delivered, or refused and so still in memory, or counted as lost; none twice.
fn check(disk: &Memory, measured: u64, refused: &BTreeMap<&'static str, u64>, lost: u64, what: &str) {
    disk.0.borrow_mut().fail = None;
    disk.0.borrow_mut().broken = None;
    let mut next = Life::begin(disk.clone(), LIMITS, 2, Instant::now());
    let delivered = next.deliver();
    assert!(delivered.is_sorted_by(|a, b| a < b), "{what}: {delivered:?}");
    let lost: u64 = lost + next.lost().values().sum::<u64>();
    let refused: u64 = refused.values().sum();
    assert_eq!(
        u64::try_from(delivered.len()).unwrap() + refused + lost,
        measured,
        "{what}: {refused} refused, {lost} lost"
    );
}

#[test]
fn whichever_single_call_fails_nothing_is_lost_uncounted_or_doubled() {
    for errno in [libc::EIO, libc::ENOSPC] {
        let mut number = 1;
        loop {
            let (disk, now) = (Memory::default(), Instant::now());
            let mut life = Life::begin(disk.clone(), LIMITS, 1, now);
            disk.0.borrow_mut().fail = Some((number, errno));
            disk.0.borrow_mut().calls = 0;
            let refused = life.measure(40);
            let lost = life.lost().values().sum();
            let done = disk.0.borrow().calls < number;
            check(
                &disk,
                40,
                &refused,
                lost,
                &format!("call {number} fails with {errno}"),
            );
            if done {
                assert!(number > 40);
                break;
            }
            number += 1;
        }
    }
}

#[test]
fn a_disk_that_fails_for_good_loses_nothing_that_was_there_and_says_its_reason() {
    for (what, errno, reason) in [
        ("write", libc::EIO, IO),
        ("write", libc::ENOSPC, FULL),
        ("write", libc::EDQUOT, FULL),
        ("create", libc::ENOSPC, FULL),
        ("create", libc::EROFS, IO),
        ("sync", libc::EIO, IO),
        ("sync_names", libc::EIO, IO),
        ("truncate", libc::EIO, IO),
        ("remove", libc::EIO, IO),
    ] {
        let (disk, now) = (Memory::default(), Instant::now());
        let mut life = Life::begin(disk.clone(), LIMITS, 1, now);
        life.measure(20);
        disk.0.borrow_mut().broken = Some((what, errno));
        let refused = life.measure(20);
        let lost = life.lost();
        assert!(refused.keys().all(|key| *key == reason), "{what}: {refused:?}");
        // A full disk takes the oldest segments for the newest snapshots, before it refuses.
        assert!(lost.keys().all(|key| *key == EVICTED), "{what}: {lost:?}");
        check(&disk, 40, &refused, lost.values().sum(), what);
    }
}

#[test]
fn a_full_disk_takes_again_once_there_is_room() {
    let (disk, now) = (Memory::default(), Instant::now());
    let mut life = Life::begin(disk.clone(), LIMITS, 1, now);
    life.measure(10);
    let taken = disk.bytes();
    disk.0.borrow_mut().room = Some(taken + 100);
    // The oldest segment gives way for the newest snapshots; what fits then is taken.
    let refused = life.measure(30);
    let lost = life.lost();
    assert!(lost[EVICTED] >= 10, "{lost:?}");
    assert!(disk.bytes() <= taken + 100);
    disk.0.borrow_mut().room = None;
    assert_eq!(life.measure(10), BTreeMap::new());
    let lost = lost.values().sum();
    check(&disk, 50, &refused, lost, "full, then not");
}

/// Memory keeps what a full disk gives up and refuses. A kill takes it, and the next life counts it.
#[test]
fn what_a_full_disk_leaves_to_memory_is_counted_after_a_kill() {
    // Room for nothing, and for so much that segments give way again and again.
    for room in [0, 100, 1_000, 3_000, 6_000] {
        let (disk, now) = (Memory::default(), Instant::now());
        let mut life = Life::begin(disk.clone(), LIMITS, 1, now);
        life.spool.progress(1, 0, 1);
        life.measure(20);
        let taken = disk.bytes();
        disk.0.borrow_mut().room = Some(taken + room);
        for _second in 0..60 {
            life.measure(1);
            life.spool.progress(1, 0, 1);
        }
        disk.0.borrow_mut().room = None;
        // Whatever comes later says how much came before it.
        life.measure(1);
        assert_eq!(life.lost(), BTreeMap::new(), "{room}: memory has it");
        let measured = 81;
        let mut next = Life::begin(disk.clone(), LIMITS, 2, now);
        let delivered = u64::try_from(next.deliver().len()).unwrap();
        let lost: u64 = next.lost().values().sum();
        assert!(delivered < measured, "{room}");
        assert_eq!(delivered + lost, measured, "{room}: {delivered} delivered");
        assert!(next.spool.stats().segments == 0 && disk.0.borrow().bytes.is_empty());
    }
}

/// The same without a kill: memory brings it, and what the disk keeps in mind goes.
#[test]
fn what_memory_brings_after_all_leaves_nothing_behind() {
    let (disk, now) = (Memory::default(), Instant::now());
    let mut life = Life::begin(disk.clone(), LIMITS, 1, now);
    life.spool.progress(1, 0, 1);
    life.measure(20);
    disk.0.borrow_mut().room = Some(disk.bytes());
    life.measure(20);
    assert!(!life.spool.take_evicted().is_empty());
    disk.0.borrow_mut().room = None;
    life.measure(5);
    life.spool.progress(1, 45, 46);
    life.measure(1);
    life.spool.progress(1, 46, 47);
    life.spool.end(life.now);
    assert!(
        disk.0.borrow().bytes.is_empty(),
        "{:?}",
        disk.0.borrow().bytes.keys()
    );
    assert_eq!(life.lost(), BTreeMap::new());
}

#[test]
fn a_sync_that_fails_has_its_snapshots_written_once_more_elsewhere() {
    let (disk, now) = (Memory::default(), Instant::now());
    let mut life = Life::begin(disk.clone(), LIMITS, 1, now);
    disk.0.borrow_mut().broken = Some(("sync", libc::EIO));
    life.measure(6);
    disk.0.borrow_mut().broken = None;
    assert_eq!(
        disk.0.borrow().bytes.len(),
        2,
        "the suspect one is not written to any more"
    );
    life.measure(6);
    // The power goes, and with it what the disk failed to keep.
    {
        let mut files = disk.0.borrow_mut();
        let synced = files.synced.clone();
        files.bytes.retain(|name, _| synced.contains_key(name));
        assert_eq!(files.bytes.len(), 1);
    }
    let mut next = Life::begin(disk, LIMITS, 2, now);
    assert_eq!(next.deliver().first(), Some(&(1, 1)));
}

#[test]
fn a_segment_that_has_vanished_in_the_middle_is_counted() {
    let limits = Limits {
        bytes_max: 128 << 10,
        ..LIMITS
    };
    let (disk, now) = (Memory::default(), Instant::now());
    Life::begin(disk.clone(), limits, 1, now).measure(300);
    let names: Vec<String> = disk.0.borrow().bytes.keys().cloned().collect();
    assert!(names.len() > 3);
    disk.0.borrow_mut().bytes.remove(&names[1]);
    let mut next = Life::begin(disk, limits, 2, now);
    let delivered = u64::try_from(next.deliver().len()).unwrap();
    assert!(delivered < 300);
    assert_eq!(next.lost(), BTreeMap::from([(CORRUPT, 300 - delivered)]));
}

#[test]
fn a_segment_that_cannot_be_read_is_counted_and_the_rest_follows() {
    for vanishes_late in [false, true] {
        let limits = Limits {
            bytes_max: 128 << 10,
            ..LIMITS
        };
        let (disk, now) = (Memory::default(), Instant::now());
        Life::begin(disk.clone(), limits, 1, now).measure(300);
        let mut next = Life::begin(disk.clone(), limits, 2, now);
        let names: Vec<String> = disk.0.borrow().bytes.keys().cloned().collect();
        let victim = if vanishes_late {
            names.last().unwrap()
        } else {
            &names[1]
        };
        disk.0.borrow_mut().bytes.remove(victim);
        let delivered = u64::try_from(next.deliver().len()).unwrap();
        let lost = next.lost()[CORRUPT];
        // How much was in the last one nobody knows any more.
        assert_eq!(lost, if vanishes_late { 1 } else { 300 - delivered });
    }
}

#[test]
fn a_tail_that_a_kill_has_torn_is_counted_once_however_often_it_is_read() {
    let (disk, now) = (Memory::default(), Instant::now());
    Life::begin(disk.clone(), LIMITS, 1, now).measure(30);
    for bytes in disk.0.borrow_mut().bytes.values_mut() {
        bytes.truncate(bytes.len() - 5);
    }
    let mut next = Life::begin(disk, LIMITS, 2, now);
    for _stream in 0..3 {
        while !next.spool.backlog(now).unwrap().unwrap().requests.is_empty() {}
        next.spool.rewind();
    }
    assert_eq!(next.deliver(), range(1, 1..=29));
    assert_eq!(next.lost(), BTreeMap::from([(CORRUPT, 1)]));
}

#[test]
fn a_life_of_which_nothing_can_be_read_is_counted_and_ends() {
    let (disk, now) = (Memory::default(), Instant::now());
    Life::begin(disk.clone(), LIMITS, 1, now).measure(30);
    for bytes in disk.0.borrow_mut().bytes.values_mut() {
        bytes.fill(0);
    }
    let mut next = Life::begin(disk.clone(), LIMITS, 2, now);
    assert_eq!(next.deliver(), []);
    assert_eq!(next.lost(), BTreeMap::from([(CORRUPT, 1)]));
    assert_eq!(disk.0.borrow().bytes.len(), 0);
}
