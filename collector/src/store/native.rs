//! Rows into ClickHouse Native blocks: columnar, written by hand.
//!
//! The client's own block builder knows neither `LowCardinality` nor `DateTime64`, and `RowBinary` costs the store four
//! times as much. A block is: number of columns, number of rows, then for each column its name, its type and its
//! values. Layouts: <https://clickhouse.com/docs/interfaces/formats/Native> and `SerializationLowCardinality.cpp`.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use uuid::Uuid;

use crate::model::Snapshot;

/// Dictionary keys are sent with the block and belong to it alone.
const LOW_CARDINALITY_VERSION: u64 = 1;

/// Flags of a `LowCardinality` column: it has keys of its own (bit 9) and starts a new dictionary (bit 10).
const LOW_CARDINALITY_FLAGS: u64 = 0x600;

/// Rows that are read for each column in turn, before the next: so many stay in the cache of a CPU.
const ROWS_AT_ONCE: usize = 256;

/// One column of a table: what it is called and how its value is read from a row. A row is an item of a snapshot.
#[derive(Debug)]
pub(crate) struct Column<T> {
    /// Name in the table.
    pub(crate) name: &'static str,
    /// Type in the table and reader of the value.
    pub(crate) value: Value<T>,
}

/// Reads one value of a row; the variant is the type of the column.
#[derive(Debug)]
pub(crate) enum Value<T> {
    Bool(fn(&Snapshot, &T) -> bool),
    U32(fn(&Snapshot, &T) -> u32),
    U64(fn(&Snapshot, &T) -> u64),
    /// `DateTime64(3, 'UTC')`: milliseconds since 1970.
    Time(fn(&Snapshot, &T) -> i64),
    Uuid(fn(&Snapshot, &T) -> Uuid),
    Text(for<'a> fn(&'a Snapshot, &'a T) -> &'a [u8]),
    /// `LowCardinality(String)`.
    Word(for<'a> fn(&'a Snapshot, &'a T) -> &'a str),
    MaybeBool(fn(&Snapshot, &T) -> Option<bool>),
    MaybeU32(fn(&Snapshot, &T) -> Option<u32>),
    MaybeU64(fn(&Snapshot, &T) -> Option<u64>),
    MaybeI64(fn(&Snapshot, &T) -> Option<i64>),
    /// `Map(String, UInt64)`.
    Counts(for<'a> fn(&'a Snapshot, &'a T) -> &'a [(String, u64)]),
    /// `Array(UInt64)`.
    Numbers(for<'a> fn(&'a Snapshot, &'a T) -> Cow<'a, [u64]>),
    /// `Array(String)`.
    Texts(for<'a> fn(&'a Snapshot, &'a T) -> Vec<&'a str>),
}

impl<T> Value<T> {
    /// The type as ClickHouse prints it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "Bool",
            Self::U32(_) => "UInt32",
            Self::U64(_) => "UInt64",
            Self::Time(_) => "DateTime64(3, 'UTC')",
            Self::Uuid(_) => "UUID",
            Self::Text(_) => "String",
            Self::Word(_) => "LowCardinality(String)",
            Self::MaybeBool(_) => "Nullable(Bool)",
            Self::MaybeU32(_) => "Nullable(UInt32)",
            Self::MaybeU64(_) => "Nullable(UInt64)",
            Self::MaybeI64(_) => "Nullable(Int64)",
            Self::Counts(_) => "Map(String, UInt64)",
            Self::Numbers(_) => "Array(UInt64)",
            Self::Texts(_) => "Array(String)",
        }
    }
}

/// Encodes rows, in their order, as one block, in pieces that follow one another.
pub(crate) fn encode<T>(columns: &[Column<T>], rows: &[(&Snapshot, &T)]) -> Vec<Bytes> {
    let mut parts: Vec<Parts<'_>> = columns
        .iter()
        .map(|column| Parts::new(&column.value, rows.len()))
        .collect();
    for rows in rows.chunks(ROWS_AT_ONCE) {
        for (column, parts) in columns.iter().zip(&mut parts) {
            parts.put(&column.value, rows);
        }
    }
    let mut head = Vec::new();
    put_varint(&mut head, columns.len());
    put_varint(&mut head, rows.len());
    let mut block = Vec::with_capacity(columns.len() * 3);
    for (column, parts) in columns.iter().zip(parts) {
        put_bytes(&mut head, column.name.as_bytes());
        put_bytes(&mut head, column.value.type_name().as_bytes());
        let pieces = [std::mem::take(&mut head)].into_iter().chain(parts.into_pieces());
        block.extend(pieces.filter(|piece| !piece.is_empty()).map(Bytes::from));
    }
    block
}

/// What there is of a column while its rows come: what stands before its values, the values, and what stands behind.
#[derive(Debug, Default)]
struct Parts<'a> {
    /// Which are NULL, or where the elements of each row end.
    before: Vec<u8>,
    values: Vec<u8>,
    /// Values of maps.
    behind: Vec<u8>,
    /// Elements so far.
    elements: usize,
    words: Option<Words<'a>>,
}

impl<'a> Parts<'a> {
    fn new<T>(value: &Value<T>, rows: usize) -> Self {
        let (before, values, is_words) = match value {
            Value::Bool(_) => (0, 1, false),
            Value::U32(_) => (0, 4, false),
            Value::U64(_) | Value::Time(_) => (0, 8, false),
            Value::Uuid(_) => (0, 16, false),
            Value::MaybeBool(_) => (1, 1, false),
            Value::MaybeU32(_) => (1, 4, false),
            Value::MaybeU64(_) | Value::MaybeI64(_) => (1, 8, false),
            Value::Counts(_) | Value::Numbers(_) | Value::Texts(_) => (8, 0, false),
            Value::Text(_) => (0, 0, false),
            Value::Word(_) => (0, 0, true),
        };
        Self {
            before: Vec::with_capacity(rows * before),
            values: Vec::with_capacity(rows * values),
            words: is_words.then(|| Words::with_capacity(rows)),
            ..Self::default()
        }
    }

    fn put<T>(&mut self, value: &Value<T>, rows: &[(&'a Snapshot, &'a T)]) {
        let out = &mut self.values;
        match value {
            Value::Bool(get) => out.extend(rows.iter().map(|(s, r)| u8::from(get(s, r)))),
            Value::U32(get) => put_each(out, rows, |s, r| get(s, r).to_le_bytes()),
            Value::U64(get) => put_each(out, rows, |s, r| get(s, r).to_le_bytes()),
            Value::Time(get) => put_each(out, rows, |s, r| get(s, r).to_le_bytes()),
            Value::Uuid(get) => put_each(out, rows, |s, r| uuid_bytes(get(s, r))),
            Value::Text(get) => rows.iter().for_each(|(s, r)| put_bytes(out, get(s, r))),
            Value::Word(get) => {
                if let Some(words) = &mut self.words {
                    words.put(rows.iter().map(|(s, r)| get(s, r)));
                }
            }
            Value::MaybeBool(get) => self.put_nullable(rows, *get, |v| [u8::from(v)]),
            Value::MaybeU32(get) => self.put_nullable(rows, *get, u32::to_le_bytes),
            Value::MaybeU64(get) => self.put_nullable(rows, *get, u64::to_le_bytes),
            Value::MaybeI64(get) => self.put_nullable(rows, *get, i64::to_le_bytes),
            Value::Counts(get) => {
                for counts in rows.iter().map(|(s, r)| get(s, r)) {
                    self.end_after(counts.len());
                    for (key, count) in counts {
                        put_bytes(&mut self.values, key.as_bytes());
                        self.behind.extend_from_slice(&count.to_le_bytes());
                    }
                }
            }
            Value::Numbers(get) => {
                for numbers in rows.iter().map(|(s, r)| get(s, r)) {
                    self.end_after(numbers.len());
                    for number in numbers.iter() {
                        self.values.extend_from_slice(&number.to_le_bytes());
                    }
                }
            }
            Value::Texts(get) => {
                for texts in rows.iter().map(|(s, r)| get(s, r)) {
                    self.end_after(texts.len());
                    for text in texts {
                        put_bytes(&mut self.values, text.as_bytes());
                    }
                }
            }
        }
    }

    /// Where the elements of a row end among those of all rows.
    fn end_after(&mut self, elements: usize) {
        self.elements += elements;
        self.before.extend_from_slice(&wide(self.elements).to_le_bytes());
    }

    /// A byte a row that says whether it is NULL, and the value, 0 where NULL.
    fn put_nullable<T, V: Default, const N: usize>(
        &mut self,
        rows: &[(&Snapshot, &T)],
        get: fn(&Snapshot, &T) -> Option<V>,
        bytes: fn(V) -> [u8; N],
    ) {
        for (s, r) in rows {
            let value = get(s, r);
            self.before.push(u8::from(value.is_none()));
            self.values.extend_from_slice(&bytes(value.unwrap_or_default()));
        }
    }

    fn into_pieces(self) -> [Vec<u8>; 3] {
        let values = match self.words {
            Some(words) => words.into_bytes(),
            None => self.values,
        };
        [self.before, values, self.behind]
    }
}

/// Values of one width.
fn put_each<'a, T, const N: usize>(
    out: &mut Vec<u8>,
    rows: &[(&'a Snapshot, &'a T)],
    bytes: impl Fn(&'a Snapshot, &'a T) -> [u8; N],
) {
    for (s, r) in rows {
        out.extend_from_slice(&bytes(s, r));
    }
}

/// The distinct words once, then the number of its word for each row, in the narrowest integer that holds them.
#[derive(Debug)]
struct Words<'a> {
    numbers: HashMap<&'a str, usize>,
    dictionary: Vec<&'a str>,
    rows: Vec<usize>,
    /// The newest row's: rows are sorted, so that most have the word of the row before.
    last: Option<(&'a str, usize)>,
}

impl<'a> Words<'a> {
    fn with_capacity(rows: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            dictionary: Vec::new(),
            rows: Vec::with_capacity(rows),
            last: None,
        }
    }

    fn put(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            let number = match self.last {
                // Often the very same, which needs no reading.
                Some((last, number)) if std::ptr::eq(last, word) || last == word => number,
                _ => *self.numbers.entry(word).or_insert_with(|| {
                    self.dictionary.push(word);
                    self.dictionary.len() - 1
                }),
            };
            self.last = Some((word, number));
            self.rows.push(number);
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        let width = match self.dictionary.len() {
            0..=0x100 => 0_u8,
            0x101..=0x1_0000 => 1,
            0x1_0001..=0x1_0000_0000 => 2,
            _ => 3,
        };
        let mut out = Vec::with_capacity(64 + self.dictionary.len() * 24 + (self.rows.len() << width));
        out.extend(LOW_CARDINALITY_VERSION.to_le_bytes());
        out.extend((LOW_CARDINALITY_FLAGS | u64::from(width)).to_le_bytes());
        out.extend(wide(self.dictionary.len()).to_le_bytes());
        for word in self.dictionary {
            put_bytes(&mut out, word.as_bytes());
        }
        out.extend(wide(self.rows.len()).to_le_bytes());
        for row in self.rows {
            out.extend_from_slice(&wide(row).to_le_bytes()[..1 << width]);
        }
        out
    }
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

    fn check(value: Value<u64>, rows: &[u64], type_name: &str, expected: &[u8]) {
        let snapshot = snapshot(1);
        let rows: Vec<_> = rows.iter().map(|row| (&snapshot, row)).collect();
        let block = encode(&[Column { name: "c", value }], &rows).concat();
        let mut head = vec![1, u8::try_from(rows.len()).unwrap(), 1, b'c'];
        put_bytes(&mut head, type_name.as_bytes());
        assert_eq!(block[..head.len()], head[..], "head");
        assert_eq!(block[head.len()..], *expected, "values");
    }

    #[test]
    fn a_number_is_little_endian() {
        check(
            Value::U64(|_, n| *n),
            &[1, 0x0203],
            "UInt64",
            &[1, 0, 0, 0, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0],
        );
    }

    #[test]
    fn an_absent_value_is_marked_and_takes_its_room() {
        check(
            Value::MaybeU32(|_, n| (*n > 0).then_some(7)),
            &[0, 1],
            "Nullable(UInt32)",
            &[1, 0, 0, 0, 0, 0, 7, 0, 0, 0],
        );
    }

    #[test]
    fn a_uuid_is_two_little_endian_halves() {
        check(
            Value::Uuid(|_, _| Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
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
            Value::Word(|_, n| if *n % 2 == 0 { "even" } else { "odd" }),
            &[2, 3, 4],
            "LowCardinality(String)",
            &expected,
        );
    }

    #[test]
    fn a_map_is_offsets_then_keys_then_values() {
        check(
            Value::Counts(|snapshot, _| &snapshot.losses),
            &[0],
            "Map(String, UInt64)",
            b"\x01\0\0\0\0\0\0\0\x09ring_full\x05\0\0\0\0\0\0\0",
        );
    }

    #[test]
    fn an_array_is_offsets_then_elements() {
        check(
            Value::Numbers(|_, n| Cow::Owned(vec![7; usize::try_from(*n).unwrap()])),
            &[0, 1],
            "Array(UInt64)",
            &[
                0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
            ],
        );
        check(
            Value::Texts(|_, n| vec!["ab"; usize::try_from(*n).unwrap()]),
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

        #[test]
        fn every_row_finds_its_word_again(rows in prop::collection::vec(0_u64..700, 1..900)) {
            let words: Vec<String> = rows.iter().map(u64::to_string).collect();
            let mut column = Words::with_capacity(words.len());
            for part in words.chunks(ROWS_AT_ONCE) {
                column.put(part.iter().map(String::as_str));
            }
            prop_assert_eq!(read_low_cardinality(&column.into_bytes()), words);
        }
    }

    /// Reads a column back the way ClickHouse does.
    fn read_low_cardinality(bytes: &[u8]) -> Vec<String> {
        fn number(bytes: &mut &[u8], width: usize) -> usize {
            let (head, tail) = bytes.split_at(width);
            *bytes = tail;
            head.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
        }
        let mut rest = bytes;
        assert_eq!(number(&mut rest, 8), 1);
        let width = 1 << (number(&mut rest, 8) & 0xff);
        let keys: Vec<String> = (0..number(&mut rest, 8))
            .map(|_| {
                let len = number(&mut rest, 1);
                let (head, tail) = rest.split_at(len);
                rest = tail;
                String::from_utf8(head.to_vec()).unwrap()
            })
            .collect();
        let words = (0..number(&mut rest, 8))
            .map(|_| keys[number(&mut rest, width)].clone())
            .collect();
        assert!(rest.is_empty());
        words
    }
}
