//! The engine's front: any bytes as a statement, as the query of an address, and as a body in native frames.

#![no_main]

use std::io::Read as _;

use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use procscope_engine::{
    frames::FrameReader,
    request::Ask,
    statement::{Head, format_clause, is_streamable_read, split_head},
};

/// Bytes read of what frames claim to hold.
const PLAIN_MAX: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let whole = split_head(input, true);
    if let Head::Insert { end, data, .. } = &whole {
        assert!(*end <= *data && *data <= input.len(), "{whole:?}");
    }
    assert!(whole != Head::Incomplete, "nothing more will come");
    // However much has arrived: what is told before the end is what is told at the end.
    let part = input.get(..input.len() / 2).unwrap_or_default();
    let early = split_head(part, false);
    if early != Head::Incomplete {
        assert_eq!(early, whole, "{part:?}");
    }
    _ = format_clause(input);
    _ = is_streamable_read(input);
    if let Ok(query) = std::str::from_utf8(input)
        && let Ok(ask) = Ask::new(&Method::GET, &HeaderMap::new(), query)
    {
        assert!(ask.readonly, "a GET changes nothing");
    }
    let mut plain = Vec::new();
    _ = FrameReader::new(input).take(PLAIN_MAX).read_to_end(&mut plain);
});
