//! The clocks of the machine: the one file that asks them. Durations come from clocks that nobody sets.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`: what the kernel stamps lives with; it counts suspended time.
#[must_use]
pub fn boottime_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds of `CLOCK_MONOTONIC_RAW`: runs at the rate of the scheduler's clock, which nobody slews.
#[must_use]
pub fn monotonic_raw_ns() -> u64 {
    nanoseconds(ClockId::MonotonicRaw)
}

/// Nanoseconds since 1970 by the wall clock; 0 before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock.rs of the crate")]
pub fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
