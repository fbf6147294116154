//! The one file that asks the system clock.

/// Now, by this machine's wall clock.
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
