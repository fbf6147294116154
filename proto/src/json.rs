//! Times in JSON: RFC 3339 in UTC.

use prost_types::Timestamp;
use serde::{Serialize as _, Serializer, ser::Error as _};

/// Writes a time, or null where there is none.
#[expect(clippy::ref_option, reason = "serde hands a field over like this")]
pub(crate) fn time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    let time = time.map(|time| jiff::Timestamp::new(time.seconds, time.nanos));
    let time = time.transpose().map_err(S::Error::custom)?;
    time.map(|time| time.to_string()).serialize(serializer)
}
