//! Rows into ClickHouse Native blocks: columnar, written by hand.
//!
//! The client's own block builder knows neither `LowCardinality` nor `DateTime64`, and `RowBinary` costs the store four
//! times as much. A block is: number of columns, number of rows, then for each column its name, its type and its
//! values. Layouts: <https://clickhouse.com/docs/interfaces/formats/Native> and `SerializationLowCardinality.cpp`.

mod columns;
mod words;

use std::borrow::Cow;

use bytes::Bytes;
use uuid::Uuid;

pub(crate) use self::columns::{Column, Kind, column_of};
use self::words::Words;
use crate::model::Snapshot;

/// Rows that are read for each column in turn, before the next: so many stay in the cache of a CPU.
const ROWS_AT_ONCE: usize = 256;

/// Encodes rows, in their order, as one block, in pieces that follow one another.
pub(crate) fn encode<T>(columns: &[Column<T>], rows: &[(&Snapshot, &T)]) -> Vec<Bytes> {
    let mut parts: Vec<Parts<'_>> = columns
        .iter()
        .map(|column| Parts::new(column.kind, rows.len()))
        .collect();
    for rows in rows.chunks(ROWS_AT_ONCE) {
        for (column, parts) in columns.iter().zip(&mut parts) {
            (column.put)(parts, rows);
        }
    }
    let mut head = Vec::new();
    put_varint(&mut head, columns.len());
    put_varint(&mut head, rows.len());
    let mut block = Vec::with_capacity(columns.len() * 3);
    for (column, parts) in columns.iter().zip(parts) {
        put_bytes(&mut head, column.name.as_bytes());
        put_bytes(&mut head, column.kind.type_name().as_bytes());
        let pieces = [std::mem::take(&mut head)]
            .into_iter()
            .chain(parts.into_pieces(column.kind));
        block.extend(pieces.filter(|piece| !piece.is_empty()).map(Bytes::from));
    }
    block
}

/// What there is of a column while its rows come: what stands before its values, the values, and what stands behind.
#[derive(Debug, Default)]
pub(crate) struct Parts<'a> {
    /// Which are NULL, or where the elements of each row end.
    before: Vec<u8>,
    values: Vec<u8>,
    /// Values of maps.
    behind: Vec<u8>,
    /// Elements so far.
    elements: usize,
    words: Words<'a>,
}

/// Rows of one kind, each with the snapshot it came with.
type Rows<'r, 'a, T> = &'r [(&'a Snapshot, &'a T)];

impl<'a> Parts<'a> {
    fn new(kind: Kind, rows: usize) -> Self {
        let (before, values) = match kind {
            Kind::Bool => (0, 1),
            Kind::U32 => (0, 4),
            Kind::U64 | Kind::Time => (0, 8),
            Kind::Uuid => (0, 16),
            Kind::MaybeBool => (1, 1),
            Kind::MaybeU32 => (1, 4),
            Kind::MaybeU64 | Kind::MaybeI64 => (1, 8),
            Kind::Counts | Kind::Numbers | Kind::Texts => (8, 0),
            Kind::Text | Kind::Word => (0, 0),
        };
        Self {
            before: Vec::with_capacity(rows * before),
            values: Vec::with_capacity(rows * values),
            words: Words::with_capacity(if kind == Kind::Word { rows } else { 0 }),
            ..Self::default()
        }
    }

    pub(crate) fn bool<T>(&mut self, rows: Rows<'_, 'a, T>, get: impl Fn(&'a Snapshot, &'a T) -> bool) {
        put_each(&mut self.values, rows, |s, r| [u8::from(get(s, r))]);
    }

    pub(crate) fn u32<T>(&mut self, rows: Rows<'_, 'a, T>, get: impl Fn(&'a Snapshot, &'a T) -> u32) {
        put_each(&mut self.values, rows, |s, r| get(s, r).to_le_bytes());
    }

    pub(crate) fn u64<T>(&mut self, rows: Rows<'_, 'a, T>, get: impl Fn(&'a Snapshot, &'a T) -> u64) {
        put_each(&mut self.values, rows, |s, r| get(s, r).to_le_bytes());
    }

    pub(crate) fn time<T>(&mut self, rows: Rows<'_, 'a, T>, get: impl Fn(&'a Snapshot, &'a T) -> i64) {
        put_each(&mut self.values, rows, |s, r| get(s, r).to_le_bytes());
    }

    pub(crate) fn uuid<T>(&mut self, rows: Rows<'_, 'a, T>, get: impl Fn(&'a Snapshot, &'a T) -> Uuid) {
        put_each(&mut self.values, rows, |s, r| uuid_bytes(get(s, r)));
    }

    pub(crate) fn text<T>(&mut self, rows: Rows<'_, 'a, T>, get: impl Fn(&'a Snapshot, &'a T) -> &'a [u8]) {
        for (s, r) in rows {
            put_bytes(&mut self.values, get(s, r));
        }
    }

    pub(crate) fn word<T>(&mut self, rows: Rows<'_, 'a, T>, get: impl Fn(&'a Snapshot, &'a T) -> &'a str) {
        self.words.put(rows.iter().map(|(s, r)| get(s, r)));
    }

    pub(crate) fn maybe_bool<T>(
        &mut self,
        rows: Rows<'_, 'a, T>,
        get: impl Fn(&'a Snapshot, &'a T) -> Option<bool>,
    ) {
        self.nullable(rows, get, |value| [u8::from(value)]);
    }

    pub(crate) fn maybe_u32<T>(
        &mut self,
        rows: Rows<'_, 'a, T>,
        get: impl Fn(&'a Snapshot, &'a T) -> Option<u32>,
    ) {
        self.nullable(rows, get, u32::to_le_bytes);
    }

    pub(crate) fn maybe_u64<T>(
        &mut self,
        rows: Rows<'_, 'a, T>,
        get: impl Fn(&'a Snapshot, &'a T) -> Option<u64>,
    ) {
        self.nullable(rows, get, u64::to_le_bytes);
    }

    pub(crate) fn maybe_i64<T>(
        &mut self,
        rows: Rows<'_, 'a, T>,
        get: impl Fn(&'a Snapshot, &'a T) -> Option<i64>,
    ) {
        self.nullable(rows, get, i64::to_le_bytes);
    }

    pub(crate) fn counts<T>(
        &mut self,
        rows: Rows<'_, 'a, T>,
        get: impl Fn(&'a Snapshot, &'a T) -> &'a [(String, u64)],
    ) {
        for counts in rows.iter().map(|(s, r)| get(s, r)) {
            self.end_after(counts.len());
            for (key, count) in counts {
                put_bytes(&mut self.values, key.as_bytes());
                self.behind.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    pub(crate) fn numbers<T>(
        &mut self,
        rows: Rows<'_, 'a, T>,
        get: impl Fn(&'a Snapshot, &'a T) -> Cow<'a, [u64]>,
    ) {
        for numbers in rows.iter().map(|(s, r)| get(s, r)) {
            self.end_after(numbers.len());
            for number in numbers.iter() {
                self.values.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    pub(crate) fn texts<T>(
        &mut self,
        rows: Rows<'_, 'a, T>,
        get: impl Fn(&'a Snapshot, &'a T) -> Vec<&'a str>,
    ) {
        for texts in rows.iter().map(|(s, r)| get(s, r)) {
            self.end_after(texts.len());
            for text in texts {
                put_bytes(&mut self.values, text.as_bytes());
            }
        }
    }

    /// Where the elements of a row end among those of all rows.
    fn end_after(&mut self, elements: usize) {
        self.elements += elements;
        self.before.extend_from_slice(&wide(self.elements).to_le_bytes());
    }

    /// A byte a row that says whether it is NULL, and the value, 0 where NULL.
    fn nullable<T, V: Default, const N: usize>(
        &mut self,
        rows: Rows<'_, 'a, T>,
        get: impl Fn(&'a Snapshot, &'a T) -> Option<V>,
        bytes: impl Fn(V) -> [u8; N],
    ) {
        let values = more::<N>(&mut self.values, rows.len());
        let nulls = more::<1>(&mut self.before, rows.len());
        for (((s, r), value), null) in rows.iter().zip(values).zip(nulls) {
            let known = get(s, r);
            *null = [u8::from(known.is_none())];
            *value = bytes(known.unwrap_or_default());
        }
    }

    fn into_pieces(self, kind: Kind) -> [Vec<u8>; 3] {
        let values = if kind == Kind::Word {
            self.words.into_bytes()
        } else {
            self.values
        };
        [self.before, values, self.behind]
    }
}

/// Values of one width.
fn put_each<'a, T, const N: usize>(
    out: &mut Vec<u8>,
    rows: Rows<'_, 'a, T>,
    bytes: impl Fn(&'a Snapshot, &'a T) -> [u8; N],
) {
    for ((s, r), value) in rows.iter().zip(more::<N>(out, rows.len())) {
        *value = bytes(s, r);
    }
}

/// Room for more values of one width, so that none of them has to look whether there is some.
fn more<const N: usize>(out: &mut Vec<u8>, values: usize) -> &mut [[u8; N]] {
    let start = out.len();
    out.resize(start + values * N, 0);
    let (values, _rest) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>();
    values
}

/// Two little-endian halves, the high one first.
fn uuid_bytes(uuid: Uuid) -> [u8; 16] {
    let (high, low) = uuid.as_u64_pair();
    (u128::from(low) << 64 | u128::from(high)).to_le_bytes()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Seven bits a byte, the lowest first, the top bit set while more follow.
fn put_varint(out: &mut Vec<u8>, number: usize) {
    let mut rest = wide(number);
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// No machine we run on has a `usize` wider than 64 bits.
fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::fixtures::snapshot;

    fn check(column: Column<u64>, rows: &[u64], type_name: &str, expected: &[u8]) {
        let snapshot = snapshot(1);
        let rows: Vec<_> = rows.iter().map(|row| (&snapshot, row)).collect();
        let block = encode(&[column], &rows).concat();
        let mut head = vec![1, u8::try_from(rows.len()).unwrap(), 1, b'c'];
        put_bytes(&mut head, type_name.as_bytes());
        assert_eq!(block[..head.len()], head[..], "head");
        assert_eq!(block[head.len()..], *expected, "values");
    }

    #[test]
    fn a_number_is_little_endian() {
        check(
            column_of!("c", U64, |_, n| *n),
            &[1, 0x0203],
            "UInt64",
            &[1, 0, 0, 0, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0],
        );
    }

    #[test]
    fn an_absent_value_is_marked_and_takes_its_room() {
        check(
            column_of!("c", MaybeU32, |_, n| (*n > 0).then_some(7)),
            &[0, 1],
            "Nullable(UInt32)",
            &[1, 0, 0, 0, 0, 0, 7, 0, 0, 0],
        );
    }

    #[test]
    fn a_uuid_is_two_little_endian_halves() {
        check(
            column_of!("c", Uuid, |_, _| Uuid::from_u128(
                0x0011_2233_4455_6677_8899_aabb_ccdd_eeff
            )),
            &[0],
            "UUID",
            &[
                0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88,
            ],
        );
    }

    #[test]
    fn equal_words_are_sent_once() {
        let mut expected = vec![
            1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
        ];
        expected.extend(b"\x04even\x03odd");
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        check(
            column_of!("c", Word, |_, n| if *n % 2 == 0 { "even" } else { "odd" }),
            &[2, 3, 4],
            "LowCardinality(String)",
            &expected,
        );
    }

    #[test]
    fn a_map_is_offsets_then_keys_then_values() {
        check(
            column_of!("c", Counts, |snapshot, _| &snapshot.losses),
            &[0],
            "Map(String, UInt64)",
            b"\x01\0\0\0\0\0\0\0\x09ring_full\x05\0\0\0\0\0\0\0",
        );
    }

    #[test]
    fn an_array_is_offsets_then_elements() {
        check(
            column_of!("c", Numbers, |_, n| Cow::Owned(vec![
                7;
                usize::try_from(*n).unwrap()
            ])),
            &[0, 1],
            "Array(UInt64)",
            &[
                0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
            ],
        );
        check(
            column_of!("c", Texts, |_, n| vec!["ab"; usize::try_from(*n).unwrap()]),
            &[2, 0],
            "Array(String)",
            b"\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x02ab\x02ab",
        );
    }

    proptest! {
        #[test]
        fn a_varint_comes_back(number: usize) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let read = bytes.iter().rev().fold(0_u64, |n, byte| (n << 7) | u64::from(byte & 0x7f));
            prop_assert_eq!(read, wide(number));
            prop_assert_eq!(bytes.iter().filter(|byte| **byte < 0x80).count(), 1);
        }
    }
}
