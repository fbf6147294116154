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

/// What a process has used of the CPUs by its own clock, all threads, those that ended included: nanoseconds. Any
/// process may ask for any other's. `None`: there is no such process.
#[must_use]
pub fn process_ns(pid: u32) -> Option<u64> {
    let mut clock = 0;
    // SAFETY: the pointer is valid for one value.
    let failed = unsafe { libc::clock_getcpuclockid(pid.try_into().ok()?, &raw mut clock) };
    if failed != 0 {
        return None;
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid for one value.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(u64::try_from(time.tv_nsec).ok()?)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
