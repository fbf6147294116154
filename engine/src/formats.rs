//! What has to be known of ClickHouse's formats: which can be joined from chunks, how long the header is that each
//! chunk repeats, and their content types. Pure.

/// How chunks of one format become one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// Chunks follow each other.
    Plain,
    /// Every chunk begins with so many lines of header.
    Lines(usize),
    /// The same, where a line end inside double quotes ends no line.
    QuotedLines(usize),
    /// Every chunk begins with a count, and so many lists of that many strings.
    Lists(usize),
    /// Chunks cannot be joined: the answer has to be made whole.
    Never,
}

/// How chunks of `format` are joined.
#[must_use]
pub fn joining(format: &str) -> Joining {
    let name = format.to_ascii_lowercase();
    match name.as_str() {
        "rowbinarywithnames" => return Joining::Lists(1),
        "rowbinarywithnamesandtypes" => return Joining::Lists(2),
        "native" | "rowbinary" | "tskv" | "lineasstring" | "null" | "ndjson" | "jsonlines" | "jsonl"
        | "msgpack" => return Joining::Plain,
        _ => {}
    }
    let (base, lines) = match (
        name.strip_suffix("withnamesandtypes"),
        name.strip_suffix("withnames"),
    ) {
        (Some(base), _) => (base, 2),
        (None, Some(base)) => (base, 1),
        (None, None) => (name.as_str(), 0),
    };
    let rows = [
        "tsv",
        "tabseparated",
        "tsvraw",
        "tabseparatedraw",
        "raw",
        "csv",
        "jsoneachrow",
        "jsonstringseachrow",
        "jsoncompacteachrow",
        "jsoncompactstringseachrow",
    ];
    match (rows.contains(&base), lines) {
        (true, 0) => Joining::Plain,
        (true, lines) if base == "csv" => Joining::QuotedLines(lines),
        (true, lines) => Joining::Lines(lines),
        (false, _) => Joining::Never,
    }
}

/// The length of the header at the beginning of the first chunk.
#[must_use]
pub fn header_length(joining: Joining, chunk: &[u8]) -> usize {
    match joining {
        Joining::Plain | Joining::Never => 0,
        Joining::Lines(lines) => lines_length(lines, chunk, false),
        Joining::QuotedLines(lines) => lines_length(lines, chunk, true),
        Joining::Lists(lists) => lists_length(lists, chunk).unwrap_or(0),
    }
}

fn lines_length(lines: usize, chunk: &[u8], quotes: bool) -> usize {
    let mut left = lines;
    let mut inside = false;
    for (at, byte) in chunk.iter().enumerate() {
        match byte {
            b'"' => inside = quotes && !inside,
            b'\n' if !inside => {
                left -= 1;
                if left == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    0
}

/// A `VarUInt` count, then `lists` times that many strings with a `VarUInt` length each.
fn lists_length(lists: usize, chunk: &[u8]) -> Option<usize> {
    let mut at = 0;
    let count = var_uint(chunk, &mut at)?;
    for _ in 0..count.checked_mul(lists)? {
        let length = var_uint(chunk, &mut at)?;
        at = at.checked_add(length).filter(|at| *at <= chunk.len())?;
    }
    Some(at)
}

fn var_uint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The content type of an answer in `format`.
#[must_use]
pub fn content_type(format: &str) -> &'static str {
    let name = format.to_ascii_lowercase();
    if name == "json"
        || (name.starts_with("json") && !name.contains("eachrow") && name != "jsonl" && name != "jsonlines")
    {
        "application/json; charset=UTF-8"
    } else if name.starts_with("json") || name == "ndjson" {
        "application/x-ndjson; charset=UTF-8"
    } else if name.starts_with("tsv") || name.starts_with("tabseparated") {
        "text/tab-separated-values; charset=UTF-8"
    } else if name.starts_with("csv") {
        "text/csv; charset=UTF-8"
    } else if name == "xml" {
        "application/xml; charset=UTF-8"
    } else if [
        "native",
        "rowbinary",
        "parquet",
        "arrow",
        "orc",
        "avro",
        "npy",
        "msgpack",
        "bson",
        "protobuf",
    ]
    .iter()
    .any(|binary| name.starts_with(binary))
    {
        "application/octet-stream"
    } else {
        "text/plain; charset=UTF-8"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_are_joined_as_they_can_be() {
        for (format, how) in [
            ("Native", Joining::Plain),
            ("TSV", Joining::Plain),
            ("CSVWithNames", Joining::QuotedLines(1)),
            ("TabSeparatedRawWithNamesAndTypes", Joining::Lines(2)),
            ("RowBinaryWithNamesAndTypes", Joining::Lists(2)),
            ("JSONEachRow", Joining::Plain),
            ("JSON", Joining::Never),
            ("Parquet", Joining::Never),
            ("Pretty", Joining::Never),
            ("CustomSeparatedWithNames", Joining::Never),
        ] {
            assert_eq!(joining(format), how, "{format}");
        }
    }

    #[test]
    fn headers_are_measured() {
        assert_eq!(header_length(Joining::QuotedLines(1), b"\"a\nb\",c\n1,2\n"), 8);
        assert_eq!(header_length(Joining::Lines(2), b"a\nInt8\n1\n"), 7);
        assert_eq!(
            header_length(Joining::Lists(2), b"\x01\x01a\x06UInt64\x00\x00"),
            10
        );
        assert_eq!(header_length(Joining::Plain, b"1\n"), 0);
    }

    proptest! {
        #[test]
        fn any_chunk_is_measured_within_its_bytes(chunk in proptest::collection::vec(any::<u8>(), 0..200)) {
            for how in [Joining::Lines(1), Joining::QuotedLines(2), Joining::Lists(1), Joining::Lists(2)] {
                prop_assert!(header_length(how, &chunk) <= chunk.len());
            }
        }
    }
}
