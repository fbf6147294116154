//! Fields in JSON: times as RFC 3339 in UTC, and null for what is not known.

use prost_types::Timestamp;
use serde::{Serialize as _, Serializer, ser::Error as _};

/// Writes a time, or null where there is none.
#[expect(clippy::ref_option, reason = "serde hands a field over like this")]
pub(crate) fn time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    let time = time.map(|time| jiff::Timestamp::new(time.seconds, time.nanos));
    let time = time.transpose().map_err(S::Error::custom)?;
    time.map(|time| time.to_string()).serialize(serializer)
}

/// Writes a text, or null where an empty one means that it is not known.
pub(crate) fn known<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Some(text).filter(|text| !text.is_empty()).serialize(serializer)
}

/// The same where it may be absent, too.
#[expect(clippy::ref_option, reason = "serde hands a field over like this")]
pub(crate) fn known_if_present<S: Serializer>(
    text: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    text.as_ref()
        .filter(|text| !text.is_empty())
        .serialize(serializer)
}

/// Writes counts, or null where nobody counted.
pub(crate) fn counts<S: Serializer>(counts: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    Some(counts)
        .filter(|counts| !counts.is_empty())
        .serialize(serializer)
}
