//! The one file that asks the system clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by the wall clock of this machine; 0 when the clock stands before 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock of the crate")]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
