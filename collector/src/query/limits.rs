//! What questions may ask for, and what they ask for when they do not say: for those who describe or check them
//! before they are asked.

pub(crate) use super::{
    HOSTS_MAX, TEXT_BYTES_MAX,
    exits::{PAGE as EXITS, PAGE_MAX as EXITS_MAX},
    range::{HOUR_MS, INTERVALS, INTERVALS_MAX},
    top::{LIMIT as TOP, LIMIT_MAX as TOP_MAX, MEMBERS},
};

/// What `hours` may be: a week. Longer ranges, up to a year, have a start and an end.
pub(crate) const HOURS_MAX: u32 = 168;
