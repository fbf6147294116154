//! The spool on a disk that can be full, fail, tear and forget; and in real folders that hold anything.

mod faults;
mod folder;

use std::{cell::RefCell, rc::Rc};

use procscope_proto::v1::Snapshot;

use super::*;
use crate::queue::Queue;

/// Files in memory, and what the disk does with the next calls.
#[derive(Debug, Default)]
struct Files {
    bytes: BTreeMap<String, Vec<u8>>,
    /// What a power cut would leave: synced lengths, by name.
    synced: BTreeMap<String, usize>,
    named: std::collections::BTreeSet<String>,
    /// Bytes that all files may take.
    room: Option<usize>,
    /// The call with this number fails, counted over all calls.
    fail: Option<(u64, i32)>,
    /// All calls of this kind fail.
    broken: Option<(&'static str, i32)>,
    calls: u64,
}

#[derive(Debug, Clone, Default)]
struct Memory(Rc<RefCell<Files>>);

impl Memory {
    fn call(&self, what: &str) -> io::Result<()> {
        let mut files = self.0.borrow_mut();
        files.calls += 1;
        let broken = files
            .broken
            .filter(|(broken, _)| *broken == what)
            .map(|(_, errno)| errno);
        let fails = files
            .fail
            .filter(|(number, _)| *number == files.calls)
            .map(|(_, errno)| errno);
        match broken.or(fails) {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        self.0.borrow().bytes.values().map(Vec::len).sum()
    }
}

impl Disk for Memory {
    type File = String;

    fn list(&mut self, max: usize, each: &mut dyn FnMut(disk::Entry)) -> io::Result<bool> {
        self.call("list")?;
        let files = self.0.borrow();
        for (name, bytes) in files.bytes.iter().take(max) {
            each(disk::Entry {
                name: name.clone(),
                bytes: u64::try_from(bytes.len()).unwrap(),
                age: Duration::ZERO,
            });
        }
        Ok(files.bytes.len() <= max)
    }

    fn create(&mut self, name: &str) -> io::Result<String> {
        self.call("create")?;
        let former = self.0.borrow_mut().bytes.insert(name.to_owned(), Vec::new());
        assert_eq!(former, None, "{name} is there");
        Ok(name.to_owned())
    }

    fn write(&mut self, file: &mut String, bytes: &[u8]) -> io::Result<()> {
        self.call("write")?;
        let taken = self.bytes();
        let mut files = self.0.borrow_mut();
        let room = files.room.map_or(usize::MAX, |room| room.saturating_sub(taken));
        let fits = bytes.len().min(room);
        files
            .bytes
            .get_mut(file)
            .expect("it is there")
            .extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(())
    }

    fn truncate(&mut self, file: &mut String, bytes: u64) -> io::Result<()> {
        self.call("truncate")?;
        let mut files = self.0.borrow_mut();
        files
            .bytes
            .get_mut(file)
            .expect("it is there")
            .truncate(usize::try_from(bytes).unwrap());
        Ok(())
    }

    fn sync(&mut self, file: &mut String) -> io::Result<()> {
        self.call("sync")?;
        let mut files = self.0.borrow_mut();
        let len = files.bytes[file].len();
        files.synced.insert(file.clone(), len);
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.call("sync_names")?;
        let mut files = self.0.borrow_mut();
        files.named = files.bytes.keys().cloned().collect();
        Ok(())
    }

    fn read(&mut self, name: &str, _max: u64) -> io::Result<Vec<u8>> {
        self.call("read")?;
        let files = self.0.borrow();
        files
            .bytes
            .get(name)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.call("remove")?;
        self.0.borrow_mut().bytes.remove(name);
        Ok(())
    }
}

const LIMITS: Limits = Limits {
    bytes_max: 1 << 30,
    age_max: Duration::from_hours(48),
    sync: Sync::After(Duration::from_secs(5)),
};

/// One life of an agent on a disk: a queue that numbers, and a spool that writes.
struct Life<D: Disk> {
    queue: Queue,
    spool: Spool<D>,
    now: Instant,
}

impl<D: Disk> Life<D> {
    fn begin(disk: D, limits: Limits, epoch: u64, now: Instant) -> Self {
        Self {
            queue: Queue::new(usize::MAX, usize::MAX, [7; 16], epoch, true),
            spool: Spool::open(disk, limits, now).unwrap(),
            now,
        }
    }

    /// Measures for so many seconds; what the spool could not take.
    fn measure(&mut self, seconds: u64) -> BTreeMap<&'static str, u64> {
        let mut refused = BTreeMap::new();
        for _second in 0..seconds {
            self.now += Duration::from_secs(1);
            let snapshot = snapshot(self.queue.len());
            let frozen = self.queue.push(&snapshot, &snapshot);
            if let Err(reason) = self.spool.append(&frozen, self.now) {
                *refused.entry(reason).or_default() += 1;
            }
            self.spool.tick(self.now);
        }
        refused
    }

    /// Brings all of the backlog to a collector that stores everything.
    fn deliver(&mut self) -> Vec<(u64, u64)> {
        let mut delivered = Vec::new();
        for _turn in 0..100_000 {
            let Some(batch) = self.spool.backlog(self.now).unwrap() else {
                return delivered;
            };
            for request in &batch.requests {
                assert!(request.backlog && request.epoch == batch.epoch);
                assert_eq!(request.snapshot_crc32c, crc32c::crc32c(&request.snapshot));
                delivered.push((request.epoch, request.seq));
            }
            if let Some(last) = batch.requests.last() {
                self.spool.stored(batch.epoch, last.seq);
            }
        }
        panic!("the backlog has no end");
    }

    fn lost(&mut self) -> BTreeMap<&'static str, u64> {
        self.spool.take_losses()
    }
}

/// Text that does not compress away.
fn snapshot(number: usize) -> Snapshot {
    let number = u64::try_from(number).unwrap() + 1;
    let words = (0..20_u64).map(|word| number.wrapping_mul(word * 2 + 0x9e37_79b9_7f4a_7c15));
    let text: Vec<String> = words.map(|word| format!("{word:016x}")).collect();
    Snapshot {
        host: text.concat(),
        ..Snapshot::default()
    }
}

fn range(epoch: u64, seqs: std::ops::RangeInclusive<u64>) -> Vec<(u64, u64)> {
    seqs.map(|seq| (epoch, seq)).collect()
}

#[test]
fn what_is_not_stored_is_there_after_a_kill_newest_life_first() {
    let (disk, now) = (Memory::default(), Instant::now());
    for (epoch, seconds) in [(1, 10), (2, 300), (3, 5)] {
        // Not ended: a kill.
        Life::begin(disk.clone(), LIMITS, epoch, now).measure(seconds);
    }
    let mut life = Life::begin(disk.clone(), LIMITS, 4, now);
    life.measure(3);
    assert!(life.spool.stats().backlog >= 3);
    let expected = [range(3, 1..=5), range(2, 1..=300), range(1, 1..=10)].concat();
    assert_eq!(life.deliver(), expected);
    assert_eq!(life.lost(), BTreeMap::new());
    life.spool.stored(4, 3);
    life.spool.end(life.now);
    assert_eq!(
        (life.spool.stats().segments, disk.bytes()),
        (0, 0),
        "nothing is left behind"
    );
}

#[test]
fn what_was_stored_before_a_kill_is_not_brought_again_but_for_the_last() {
    let (disk, now) = (Memory::default(), Instant::now());
    let mut first = Life::begin(disk.clone(), LIMITS, 1, now);
    first.measure(50);
    first.spool.stored(1, 50);
    first.measure(1);
    let mut second = Life::begin(disk, LIMITS, 2, now);
    assert_eq!(second.deliver(), range(1, 51..=51));
    assert_eq!(second.lost(), BTreeMap::new());
}

#[test]
fn a_stream_that_breaks_brings_again_what_was_not_stored() {
    let (disk, now) = (Memory::default(), Instant::now());
    Life::begin(disk.clone(), LIMITS, 1, now).measure(200);
    let mut life = Life::begin(disk, LIMITS, 2, now);
    let batch = life.spool.backlog(now).unwrap().unwrap();
    assert!(batch.requests.len() < 200);
    life.spool.stored(1, 10);
    life.spool.rewind();
    assert_eq!(life.deliver(), range(1, 11..=200));
    assert_eq!(life.lost(), BTreeMap::new());
}

#[test]
fn while_all_goes_well_nothing_waits_for_the_disk_and_in_an_outage_twelve_calls_a_minute_do() {
    let (disk, now) = (Memory::default(), Instant::now());
    let mut life = Life::begin(disk, LIMITS, 1, now);
    for seq in 1..=600 {
        life.measure(1);
        life.spool.stored(1, seq);
    }
    assert_eq!((life.spool.stats().syncs, life.spool.stats().writes), (0, 600));
    life.measure(600);
    let stats = life.spool.stats();
    assert!((100..=125).contains(&stats.syncs), "{stats:?}");
    assert_eq!(stats.writes, 1200);
    let mut each = Life::begin(
        Memory::default(),
        Limits {
            sync: Sync::Each,
            ..LIMITS
        },
        1,
        now,
    );
    each.measure(60);
    assert!(
        (60..=62).contains(&each.spool.stats().syncs),
        "{:?}",
        each.spool.stats()
    );
}

#[test]
fn a_power_cut_takes_no_more_than_five_seconds() {
    let (disk, now) = (Memory::default(), Instant::now());
    Life::begin(disk.clone(), LIMITS, 1, now).measure(103);
    {
        let mut files = disk.0.borrow_mut();
        let (synced, named) = (files.synced.clone(), files.named.clone());
        files.bytes.retain(|name, bytes| {
            bytes.truncate(synced.get(name).copied().unwrap_or(0));
            named.contains(name)
        });
    }
    let mut life = Life::begin(disk, LIMITS, 2, now);
    let delivered = life.deliver();
    assert!(delivered.len() >= 98, "{} are left", delivered.len());
    assert_eq!(delivered, range(1, 1..=u64::try_from(delivered.len()).unwrap()));
}

#[test]
fn the_oldest_segments_give_way_to_the_quota_and_are_counted() {
    let limits = Limits {
        bytes_max: 64 << 10,
        ..LIMITS
    };
    let (disk, now) = (Memory::default(), Instant::now());
    let mut life = Life::begin(disk.clone(), limits, 1, now);
    for _minute in 0..30 {
        life.measure(60);
        assert!(disk.bytes() <= 64 << 10, "{}", disk.bytes());
        assert_eq!(u64::try_from(disk.bytes()).unwrap(), life.spool.stats().bytes);
    }
    let lost = life.lost();
    let mut next = Life::begin(disk, limits, 2, now);
    let delivered = next.deliver();
    let first = delivered[0].1;
    assert_eq!(delivered, range(1, first..=1800));
    assert!((100..1700).contains(&delivered.len()), "{}", delivered.len());
    assert_eq!(lost, BTreeMap::from([(EVICTED, first - 1)]));
    assert_eq!(next.lost(), BTreeMap::new());
}

#[test]
fn what_gives_way_while_memory_holds_it_is_left_to_memory() {
    let limits = Limits {
        bytes_max: 64 << 10,
        ..LIMITS
    };
    let mut life = Life::begin(Memory::default(), limits, 1, Instant::now());
    let mut given_up = Vec::new();
    while given_up.is_empty() {
        life.measure(1);
        life.spool.progress(1, 0, 11);
        given_up = life.spool.take_evicted();
    }
    assert_eq!(life.lost(), BTreeMap::from([(EVICTED, 10)]));
    let numbers = |given_up: &[GaveWay]| -> Vec<u64> {
        assert!(given_up.iter().all(|gone| gone.epoch == 1));
        let held = given_up.iter().flat_map(|gone| &gone.held);
        held.map(|held| held.seq).collect()
    };
    let first = numbers(&given_up);
    let last = *first.last().unwrap();
    assert_eq!(first, (11..=last).collect::<Vec<_>>());
    // The next segment has what comes after that, whatever memory holds.
    while given_up.len() < 2 {
        life.measure(1);
        life.spool.progress(1, 0, 11);
        given_up.extend(life.spool.take_evicted());
    }
    let both = numbers(&given_up);
    assert!(both.len() > first.len());
    assert_eq!(both, (11..=*both.last().unwrap()).collect::<Vec<_>>());
    assert_eq!(life.lost(), BTreeMap::new());
}

/// What cannot be read is counted by its name, and what of it memory has is left to memory too.
#[test]
fn what_gives_way_unread_while_memory_holds_it_is_left_to_memory() {
    let limits = Limits {
        bytes_max: 64 << 10,
        ..LIMITS
    };
    let disk = Memory::default();
    let mut life = Life::begin(disk.clone(), limits, 1, Instant::now());
    disk.0.borrow_mut().broken = Some(("read", libc::EIO));
    let mut given_up = Vec::new();
    while given_up.is_empty() {
        life.measure(1);
        life.spool.progress(1, 0, 11);
        given_up = life.spool.take_evicted();
    }
    assert_eq!(life.lost(), BTreeMap::from([(EVICTED, 10)]));
    let held = &given_up[0].held;
    assert_eq!(held.first(), Some(&segment::Held { seq: 11, count: 1 }));
    assert!(held.iter().map(|held| held.seq).is_sorted() && held.len() > 1);
}

#[test]
fn segments_give_way_to_their_age_whatever_the_wall_clock_says() {
    let limits = Limits {
        age_max: Duration::from_hours(1),
        ..LIMITS
    };
    let (disk, now) = (Memory::default(), Instant::now());
    Life::begin(disk.clone(), limits, 1, now).measure(10);
    let mut life = Life::begin(disk, limits, 2, now);
    life.spool.tick(now + Duration::from_mins(59));
    assert_eq!(life.lost(), BTreeMap::new());
    life.spool.tick(now + Duration::from_mins(61));
    assert_eq!(life.lost(), BTreeMap::from([(EVICTED, 10)]));
    assert_eq!(life.spool.backlog(now).unwrap().map(|batch| batch.epoch), None);
}

#[test]
fn what_gives_way_while_it_is_brought_is_counted_and_the_rest_follows() {
    let limits = Limits {
        bytes_max: 64 << 10,
        ..LIMITS
    };
    let (disk, now) = (Memory::default(), Instant::now());
    let mut first = Life::begin(disk.clone(), limits, 1, now);
    let mut seconds = 0;
    while first.lost().is_empty() {
        first.measure(1);
        seconds += 1;
    }
    let mut life = Life::begin(disk, limits, 2, now);
    let batch = life.spool.backlog(now).unwrap().unwrap();
    let handed: Vec<u64> = batch.requests.iter().map(|request| request.seq).collect();
    // The present life writes until the segment that is being read has gone.
    let mut lost = 0;
    while lost == 0 {
        life.measure(1);
        lost = life.lost().get(EVICTED).copied().unwrap_or(0);
    }
    let delivered: Vec<u64> = life.deliver().into_iter().map(|(_, seq)| seq).collect();
    assert!(delivered.is_sorted() && delivered.last() == Some(&seconds));
    let first_handed = handed[0];
    let known = u64::try_from(handed.len() + delivered.len()).unwrap();
    // What was handed out and not stored counts as lost: more than that never.
    assert!(
        known + lost > seconds - first_handed,
        "{known} {lost} of {}",
        seconds - first_handed + 1
    );
    assert_eq!(life.lost(), BTreeMap::new());
}
