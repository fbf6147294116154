//! What a snapshot will take in memory, read from its bytes before anything is decoded: a row of two bytes becomes
//! one of hundreds, so rows are counted first.

use super::{Checked, ROWS_MAX, Refusal};
use crate::model::ProcessSample;

/// Fields of `Snapshot` that are rows: samples, exits, processes.
const ROWS: std::ops::RangeInclusive<u64> = 6..=8;

/// A row names its process by 16 bytes, with two before them; one with fewer cannot be good.
const ROW_BYTES_MIN: usize = 18;

/// What a decoded row takes, in a queue that holds four times as many bytes decoded as encoded.
const ROW_WEIGHT: usize = size_of::<ProcessSample>() / 4;

/// How much of the queue an encoded snapshot takes.
///
/// # Errors
/// When it has more rows than a snapshot may have, or rows that are none. What cannot be read at all is left to the
/// decoder, which says why.
pub fn weigh(encoded: &[u8]) -> Checked<usize> {
    let mut rows: usize = 0;
    let mut rest = encoded;
    while let Some((field, length)) = next(&mut rest) {
        let Some(length) = length.filter(|_length| ROWS.contains(&field)) else {
            continue;
        };
        rows += 1;
        if length < ROW_BYTES_MIN {
            return Err(Refusal::new(
                "snapshot",
                format!("has a row of {length} bytes, which names no process"),
            ));
        }
        if rows > 3 * ROWS_MAX {
            return Err(Refusal::new(
                "snapshot",
                format!("has more than {ROWS_MAX} rows of a kind"),
            ));
        }
    }
    Ok(encoded.len().max(rows * ROW_WEIGHT))
}

/// The next field, and its length where it has one; `rest` goes on behind it.
fn next(rest: &mut &[u8]) -> Option<(u64, Option<usize>)> {
    let key = varint(rest)?;
    let mut length = None;
    match key & 7 {
        0 => {
            varint(rest)?;
        }
        1 => skip(rest, 8)?,
        2 => {
            let bytes = usize::try_from(varint(rest)?).ok()?;
            skip(rest, bytes)?;
            length = Some(bytes);
        }
        5 => skip(rest, 4)?,
        _ => return None,
    }
    Some((key >> 3, length))
}

fn skip(rest: &mut &[u8], bytes: usize) -> Option<()> {
    *rest = rest.get(bytes..)?;
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(u32::try_from(7 * index).ok()?)?;
        if byte & 0x80 == 0 {
            *rest = rest.get(index + 1..)?;
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use procscope_proto::v1;
    use prost::Message as _;

    use super::*;

    #[test]
    fn an_honest_snapshot_weighs_its_rows_or_its_bytes() {
        let sample = v1::ProcessSample {
            process_id: vec![1; 16],
            name: "a".to_owned(),
            ..v1::ProcessSample::default()
        };
        let snapshot = v1::Snapshot {
            host: "h".to_owned(),
            interval_ns: u64::MAX,
            samples: vec![sample; 100],
            ..v1::Snapshot::default()
        };
        assert_eq!(weigh(&snapshot.encode_to_vec()), Ok(100 * ROW_WEIGHT));
        let long = v1::Snapshot {
            host: "h".repeat(1_000_000),
            ..v1::Snapshot::default()
        };
        let encoded = long.encode_to_vec();
        assert_eq!(weigh(&encoded), Ok(encoded.len()));
        assert_eq!(weigh(&[]), Ok(0));
    }

    #[test]
    fn rows_that_take_more_than_they_say_are_refused_before_they_are_made() {
        // Eight million rows in 16 MiB, some five gigabytes once decoded.
        let hollow: Vec<u8> = [0x32, 0].repeat(8 << 20);
        assert!(
            weigh(&hollow)
                .unwrap_err()
                .to_string()
                .contains("names no process")
        );
        let row = [vec![0x32, 18, 0x0a, 16], vec![1; 16]].concat();
        assert!(weigh(&row.repeat(3 * ROWS_MAX)).is_ok());
        assert!(
            weigh(&row.repeat(3 * ROWS_MAX + 1))
                .unwrap_err()
                .to_string()
                .contains("rows")
        );
    }

    #[test]
    fn whatever_the_bytes_are_they_are_read_to_their_end_at_most() {
        use proptest::prelude::*;
        proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..200))| {
            if let Ok(weight) = weigh(&bytes) {
                prop_assert!(weight >= bytes.len());
            }
        });
    }
}
