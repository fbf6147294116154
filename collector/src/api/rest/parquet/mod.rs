//! Rows as a Parquet file, a group of rows at a time: plain, not compressed (the transport does that), each column
//! with a type of its own. Only what is needed of <https://parquet.apache.org/docs/file-format/>.

mod thrift;

use serde_json::Value;

use super::sheet::{self, Record};
use thrift::{Struct, list, varint};

const MAGIC: &[u8] = b"PAR1";

/// Numbers of the format.
const DATA_PAGE: i32 = 0;
const PLAIN: i32 = 0;
const RLE: i32 = 3;
const UNCOMPRESSED: i32 = 0;
const OPTIONAL: i32 = 1;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Unsigned,
    Signed,
    Float,
    Time,
    Text,
}

impl Kind {
    /// The physical type, and the one that says what it means.
    fn types(self) -> (i32, Option<i32>) {
        match self {
            Self::Flag => (0, None),
            Self::Unsigned => (2, Some(14)),
            Self::Signed => (2, Some(18)),
            Self::Float => (5, None),
            Self::Time => (2, Some(9)),
            Self::Text => (6, Some(0)),
        }
    }

    /// Writes a value; `false`: it is not known.
    fn put(self, value: &Value, out: &mut Vec<u8>) -> bool {
        let bytes = match self {
            _ if value.is_null() => None,
            Self::Flag => value.as_bool().map(|flag| vec![u8::from(flag)]),
            Self::Unsigned => value.as_u64().map(|number| number.to_le_bytes().to_vec()),
            Self::Signed => value.as_i64().map(|number| number.to_le_bytes().to_vec()),
            Self::Float => value.as_f64().map(|number| number.to_le_bytes().to_vec()),
            Self::Time => {
                let time = value
                    .as_str()
                    .and_then(|text| text.parse::<jiff::Timestamp>().ok());
                time.map(|time| time.as_millisecond().to_le_bytes().to_vec())
            }
            Self::Text => {
                let text = sheet::words(value);
                let length = u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
                Some([&length, text.as_bytes()].concat())
            }
        };
        let known = bytes.is_some();
        out.extend(bytes.into_iter().flatten());
        known
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Parquet {
    columns: Vec<(String, Kind)>,
    /// Length of what was written.
    at: i64,
    rows: i64,
    /// What the end says of each group.
    groups: Vec<Struct>,
}

impl Parquet {
    /// A file with these columns.
    pub(super) fn new(columns: Vec<(String, Kind)>) -> Self {
        Self {
            columns,
            at: 0,
            rows: 0,
            groups: Vec::new(),
        }
    }

    /// The bytes of some rows, each of which has the file's columns in their order.
    pub(super) fn group(&mut self, rows: &[Record]) -> Vec<u8> {
        let mut bytes = if self.at == 0 { MAGIC.to_vec() } else { Vec::new() };
        if rows.is_empty() {
            self.at += length(&bytes);
            return bytes;
        }
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let mut chunks = Vec::new();
        let mut size = 0;
        for (column, (name, kind)) in self.columns.iter().enumerate() {
            let page = page(
                rows.iter()
                    .map(|row| row.get(column).map_or(&Value::Null, |(_, value)| value)),
                *kind,
            );
            let begin = self.at + length(&bytes);
            bytes.extend(&page);
            size += length(&page);
            let meta = Struct::new()
                .i32(1, kind.types().0)
                .list(2, &list(5, [thrift::int(PLAIN.into()), thrift::int(RLE.into())]))
                .list(3, &list(8, [thrift::text(name)]))
                .i32(4, UNCOMPRESSED)
                .i64(5, count)
                .i64(6, length(&page))
                .i64(7, length(&page))
                .i64(9, begin);
            chunks.push(Struct::new().i64(2, begin).inner(3, meta).end());
        }
        self.groups.push(
            Struct::new()
                .list(1, &list(12, chunks))
                .i64(2, size)
                .i64(3, count),
        );
        self.rows += count;
        self.at += length(&bytes);
        bytes
    }

    /// What stands at the end, and makes a file of it.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let root = Struct::new()
            .text(4, "procscope")
            .i32(5, i32::try_from(self.columns.len()).unwrap_or(0))
            .end();
        let columns = self.columns.iter().map(|(name, kind)| {
            let (physical, meaning) = kind.types();
            let column = Struct::new().i32(1, physical).i32(3, OPTIONAL).text(4, name);
            match meaning {
                Some(meaning) => column.i32(6, meaning).end(),
                None => column.end(),
            }
        });
        let schema = list(12, std::iter::once(root).chain(columns));
        let groups = list(12, std::mem::take(&mut self.groups).into_iter().map(Struct::end));
        let footer = Struct::new()
            .i32(1, 1)
            .list(2, &schema)
            .i64(3, self.rows)
            .list(4, &groups)
            .text(6, "procscope")
            .end();
        let mut bytes = if self.at == 0 { MAGIC.to_vec() } else { Vec::new() };
        let size = u32::try_from(footer.len()).unwrap_or(0).to_le_bytes();
        bytes.extend([&footer[..], &size, MAGIC].concat());
        bytes
    }
}

fn length(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

/// One column of a group: which values are known, then those.
fn page<'a>(values: impl Iterator<Item = &'a Value>, kind: Kind) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut levels = Vec::new();
    let mut run: (u64, bool) = (0, false);
    let mut count = 0;
    let mut end_run = |run: (u64, bool)| {
        if run.0 > 0 {
            varint(run.0 << 1, &mut levels);
            levels.push(u8::from(run.1));
        }
    };
    for value in values {
        let known = kind.put(value, &mut plain);
        if known != run.1 {
            end_run(run);
            run = (0, known);
        }
        run.0 += 1;
        count += 1;
    }
    end_run(run);
    if kind == Kind::Flag {
        plain = plain
            .chunks(8)
            .map(|flags| flags.iter().rev().fold(0, |byte, flag| byte << 1 | flag))
            .collect();
    }
    let levels_size = u32::try_from(levels.len()).unwrap_or(0).to_le_bytes();
    let body = [&levels_size[..], &levels, &plain].concat();
    let size = i32::try_from(body.len()).unwrap_or(i32::MAX);
    let data = Struct::new().i32(1, count).i32(2, PLAIN).i32(3, RLE).i32(4, RLE);
    let header = Struct::new()
        .i32(1, DATA_PAGE)
        .i32(2, size)
        .i32(3, size)
        .inner(5, data)
        .end();
    [header, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_packed_and_the_unknown_takes_no_room() {
        let values = [
            Value::Bool(true),
            Value::Null,
            Value::Bool(false),
            Value::Bool(true),
        ];
        let page = page(values.iter(), Kind::Flag);
        // One known, one unknown, two known; then three flags in a byte.
        assert_eq!(page[page.len() - 7..], [2, 1, 2, 0, 4, 1, 0b101]);
    }

    #[test]
    fn a_file_without_rows_is_a_file() {
        let mut file = Parquet::new(vec![("a".to_owned(), Kind::Text)]);
        let bytes = [file.group(&[]), file.end()].concat();
        assert!(bytes.starts_with(MAGIC) && bytes[4..].ends_with(MAGIC));
    }
}
