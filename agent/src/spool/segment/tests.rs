//! Whatever becomes of the bytes of a segment: what is whole comes back as it was, and what is missing is known.

use std::sync::{Arc, LazyLock};

use procscope_proto::v1::Snapshot;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::queue::Queue;

const EPOCH: u64 = 9;

/// Snapshots that are like each other, as those of one machine are.
fn snapshots(count: u64) -> Vec<Arc<Frozen>> {
    let mut queue = Queue::new(usize::MAX, usize::MAX, [7; 16], EPOCH, false);
    (0..count)
        .map(|number| {
            let words =
                (0..14_u64).map(|word| (word * word + number / 7).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let noise: Vec<String> = words.map(|word| format!("{word:x}")).collect();
            let snapshot = Snapshot {
                host: noise.concat(),
                interval_ns: number,
                ..Snapshot::default()
            };
            queue.push(&snapshot, &snapshot)
        })
        .collect()
}

/// Their bytes, and where the records of each begin.
fn segment(snapshots: &[Arc<Frozen>]) -> (Vec<u8>, Vec<usize>) {
    let (mut encoder, mut bytes, mut starts) = (Encoder::default(), Vec::new(), Vec::new());
    for (ordinal, frozen) in (1..).zip(snapshots) {
        starts.push(bytes.len());
        assert!(encoder.encode(frozen, ordinal, 0, &mut bytes));
    }
    (bytes, starts)
}

/// Numbers of what comes back; each has to be what it was.
fn read(bytes: Vec<u8>, snapshots: &[Arc<Frozen>]) -> (Vec<u64>, Reader) {
    let mut reader = Reader::new(bytes, EPOCH, 0);
    let mut seqs = Vec::new();
    for (header, raw) in reader.by_ref() {
        let was = &snapshots[usize::try_from(header.seq).unwrap() - 1];
        assert_eq!(raw, was.request.snapshot, "{}", header.seq);
        assert_eq!(header.raw_crc, was.request.snapshot_crc32c);
        seqs.push(header.seq);
    }
    (seqs, reader)
}

/// Snapshots, their bytes, and where the records of each begin.
type Segment = (Vec<Arc<Frozen>>, Vec<u8>, Vec<usize>);

static SEGMENT: LazyLock<Segment> = LazyLock::new(|| {
    let snapshots = snapshots(90);
    let (bytes, starts) = segment(&snapshots);
    (snapshots, bytes, starts)
});

#[test]
fn what_was_written_is_read() {
    let (snapshots, bytes, _) = &*SEGMENT;
    let (seqs, reader) = read(bytes.clone(), snapshots);
    assert_eq!(seqs, (1..=90).collect::<Vec<_>>());
    assert!(!reader.is_torn());
    assert_eq!(reader.seen(), 90);
}

#[test]
fn a_segment_of_the_first_version_is_read_for_ever() {
    // Written by `fuzz/examples/seeds.rs` when the format was new. With another format, another magic and another file.
    let bytes = include_bytes!("../../../../fuzz/corpus/segment/four").to_vec();
    let mut reader = Reader::new(bytes, 7, 0);
    let read: Vec<_> = reader
        .by_ref()
        .map(|(header, raw)| {
            let snapshot = Snapshot::decode(raw.as_slice()).unwrap();
            (header.seq, snapshot.host, snapshot.samples[0].cpu_time_ns)
        })
        .collect();
    let expected = (1..=4).map(|seq| (seq, "web-1".to_owned(), 9_000_000 * seq));
    assert_eq!(read, expected.collect::<Vec<_>>());
    assert!(!reader.is_torn());
}

#[test]
fn a_key_is_renewed_once_staying_has_cost_as_much() {
    let mut queue = Queue::new(usize::MAX, usize::MAX, [7; 16], EPOCH, false);
    let mut encoder = Encoder::default();
    let mut renewed = |hosts: &mut dyn Iterator<Item = String>| {
        let (mut keys, mut bytes) = (0, Vec::new());
        for host in hosts {
            let snapshot = Snapshot {
                host,
                ..Snapshot::default()
            };
            let frozen = queue.push(&snapshot, &snapshot);
            bytes.clear();
            assert!(encoder.encode(&frozen, frozen.request.seq, 0, &mut bytes));
            keys += u32::from(record::frame(&bytes).unwrap().header.kind == Kind::Key);
        }
        keys
    };
    let text = |number: u64| -> String {
        let words = (number..number + 200).map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        words
            .map(|word| format!("{word:016x}"))
            .collect::<Vec<_>>()
            .concat()
    };
    assert_eq!(renewed(&mut (0..200).map(|_| text(0))), 1, "nothing changes");
    let drifting = renewed(&mut (0..200).map(text));
    assert!(
        (5..60).contains(&drifting),
        "{drifting} keys for what changes by half a percent each time"
    );
}

#[test]
fn a_segment_cut_at_any_byte_gives_what_is_before_the_cut_and_knows_that_it_is_torn() {
    let snapshots = snapshots(5);
    let (bytes, starts) = segment(&snapshots);
    let copy = record::frame(&bytes).unwrap().record_len();
    for cut in 0..=bytes.len() {
        let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
        let mut whole = u64::try_from(ends.filter(|end| *end <= cut).count()).unwrap();
        // The first snapshot is whole already where its copy begins.
        let in_copy = (copy..starts[1]).contains(&cut);
        whole = whole.max(u64::from(in_copy));
        let (seqs, reader) = read(bytes[..cut].to_vec(), &snapshots);
        assert_eq!(seqs, (1..=whole).collect::<Vec<_>>(), "cut at {cut}");
        let clean = in_copy || cut == 0 || cut == bytes.len() || starts.contains(&cut);
        let missing = u64::from(reader.is_torn()) + reader.seen() - whole;
        assert_eq!(missing, u64::from(!clean), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_costs_one_snapshot_at_most_wherever_it_is() {
    let (snapshots, bytes, starts) = &*SEGMENT;
    let is_key = |record: &usize| record::frame(&bytes[starts[*record]..]).unwrap().header.kind == Kind::Key;
    let keys: Vec<usize> = (0..starts.len()).filter(is_key).collect();
    let seq = |record: usize| u64::try_from(record).unwrap() + 1;
    let mut cases = 0;
    for bit in 0..bytes.len() * 8 {
        let record = starts.partition_point(|start| *start <= bit / 8) - 1;
        let key = keys[keys.partition_point(|key| *key <= record) - 1];
        // The key that the damaged record leans on, the record, and two that follow: the rest has no part in it.
        let from = record.max(key + 1);
        let last = (from + 3).min(starts.len() - 1);
        let mut piece = bytes[starts[key]..starts[key + 1]].to_vec();
        let moved = if record == key {
            starts[key]
        } else {
            starts[from] - piece.len()
        };
        piece.extend_from_slice(&bytes[starts[from]..starts[last]]);
        let Some(byte) = piece.get_mut(bit / 8 - moved) else {
            continue;
        };
        *byte ^= 1 << (bit % 8);
        let (seqs, _) = read(piece, snapshots);
        let mut expected: Vec<u64> = [key].into_iter().chain(from..last).map(seq).collect();
        if seqs != expected {
            expected.retain(|expected| *expected != seq(record));
            assert_eq!(seqs, expected, "bit {bit} in record {record}");
            assert!(record != key, "a key is there twice");
        }
        cases += 1;
    }
    println!("{cases} cases");
    assert!(cases >= 100_000, "{cases} cases");
}

#[test]
fn a_flip_in_a_key_that_has_followers_costs_nothing() {
    let (snapshots, bytes, starts) = &*SEGMENT;
    for byte in (0..starts[1]).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[byte] ^= 0x10;
        assert_eq!(read(flipped, snapshots).0.len(), 90, "byte {byte}");
    }
}

#[test]
fn records_that_claim_to_lie_within_each_other_end_soon() {
    let header = Header {
        kind: Kind::Key,
        raw_len: 10,
        agent_id: [7; 16],
        epoch: EPOCH,
        seq: 1,
        ordinal: 1,
        durable: 0,
        time_ms: 0,
        key_seq: 1,
        stated: 0,
        raw_crc: 0,
    };
    // Good headers, payloads of nearly everything that follows.
    let mut one = Vec::new();
    assert!(record::write(&header, &vec![0; 10 << 20], &mut one));
    one.truncate(HEADER_LEN);
    let hostile: Vec<u8> = one.iter().copied().cycle().take(12 << 20).collect();
    let mut reader = Reader::new(hostile, EPOCH, 0);
    assert_eq!(reader.next(), None);
    assert_eq!(reader.work, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_to_the_bytes_nothing_comes_back_changed(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..5), 1..6),
    ) {
        let (snapshots, bytes, starts) = &*SEGMENT;
        let mut bytes = bytes.clone();
        for (from, to, change) in changes {
            if bytes.is_empty() {
                break;
            }
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            match change {
                0 => bytes[from] ^= 0xff,
                1 => bytes.truncate(from),
                2 => drop(bytes.drain(from.min(to)..from.max(to).min(from.min(to) + 500))),
                3 => bytes.swap(from, to),
                // A record in another's place, as it was.
                _ => {
                    let start = starts[from % starts.len()];
                    let end = starts.get(from % starts.len() + 1).copied().unwrap_or(SEGMENT.1.len());
                    let record = SEGMENT.1[start..end].to_vec();
                    bytes.splice(to..to, record);
                }
            }
        }
        let (seqs, _) = read(bytes, snapshots);
        prop_assert!(seqs.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
        prop_assert_eq!(Reader::new(bytes, EPOCH, 0).count(), 0);
    }
}
