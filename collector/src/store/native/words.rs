//! A `LowCardinality` column: `SerializationLowCardinality.cpp`.

use std::collections::HashMap;

use super::{put_bytes, wide};

/// Dictionary keys are sent with the block and belong to it alone.
const LOW_CARDINALITY_VERSION: u64 = 1;

/// Flags of a `LowCardinality` column: it has keys of its own (bit 9) and starts a new dictionary (bit 10).
const LOW_CARDINALITY_FLAGS: u64 = 0x600;

/// The distinct words once, then the number of its word for each row, in the narrowest integer that holds them.
#[derive(Debug, Default)]
pub(super) struct Words<'a> {
    numbers: HashMap<&'a str, usize>,
    dictionary: Vec<&'a str>,
    rows: Vec<usize>,
    /// The newest row's: rows are sorted, so that most have the word of the row before.
    last: Option<(&'a str, usize)>,
}

impl<'a> Words<'a> {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    pub(super) fn put(&mut self, words: impl Iterator<Item = &'a str>) {
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

    pub(super) fn into_bytes(self) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::ROWS_AT_ONCE, *};

    proptest! {
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
