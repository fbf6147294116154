//! A snapshot smaller: zstd, against an earlier snapshot where there is one. Pure.
//!
//! Two snapshots of one machine are nearly the same, so against a key one takes a fraction of what it takes alone.
//! A context lives for one call: it costs some microseconds and leaves no memory behind.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound};

use super::record::RAW_MAX;

/// What the library takes when it is not told.
const LEVEL: i32 = 3;

/// Windows of 1 KiB to 32 MiB: what a decoder takes without being asked is 128 MiB.
const WINDOW_LOG: std::ops::RangeInclusive<u32> = 10..=25;

/// Compresses a snapshot; `None` when the library cannot, for want of memory.
#[must_use]
pub fn compress(raw: &[u8], key: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(LEVEL)).ok()?;
    if let Some(key) = key {
        // The window has to reach from the end of the snapshot to the beginning of the key.
        let reach = raw.len() + key.len();
        let log = usize::BITS - reach.leading_zeros();
        let log = log.clamp(*WINDOW_LOG.start(), *WINDOW_LOG.end());
        context.set_parameter(CParameter::WindowLog(log)).ok()?;
        context.ref_prefix(key).ok()?;
    }
    let mut out = Vec::with_capacity(compress_bound(raw.len()));
    context.compress2(&mut out, raw).ok()?;
    out.shrink_to_fit();
    Some(out)
}

/// The snapshot of exactly `raw_len` bytes that was compressed; `None` when this is none.
#[must_use]
pub fn expand(payload: &[u8], key: Option<&[u8]>, raw_len: usize) -> Option<Vec<u8>> {
    if raw_len > RAW_MAX {
        return None;
    }
    let mut context = DCtx::try_create()?;
    if let Some(key) = key {
        context.ref_prefix(key).ok()?;
    }
    let mut raw = Vec::with_capacity(raw_len);
    context.decompress(&mut raw, payload).ok()?;
    (raw.len() == raw_len).then_some(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(
            raw in proptest::collection::vec(any::<u8>(), 0..5_000),
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..5_000)),
        ) {
            let small = compress(&raw, key.as_deref()).unwrap();
            prop_assert_eq!(expand(&small, key.as_deref(), raw.len()), Some(raw.clone()));
            prop_assert_eq!(expand(&small, key.as_deref(), raw.len() + 1), None);
        }

        #[test]
        fn bytes_of_any_kind_are_no_accident(payload in proptest::collection::vec(any::<u8>(), 0..500)) {
            let expanded = expand(&payload, None, 1_000);
            prop_assert!(expanded.is_none_or(|raw| raw.len() == 1_000));
        }
    }

    #[test]
    fn a_snapshot_like_its_key_takes_next_to_nothing() {
        let key: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let mut raw = key.clone();
        raw[200_000] ^= 1;
        assert!(compress(&raw, Some(&key)).unwrap().len() < 500);
        assert!(compress(&raw, None).unwrap().len() > 300_000);
    }
}
