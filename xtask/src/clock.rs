//! The one file that asks the system clock.

use rustix::time::{ClockId, clock_gettime};

/// Wall time in whole seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}
