//! What questions may ask for, and what they ask for when they do not say: for those who describe or check them
//! before they are asked.

pub(crate) use super::{
    HOSTS_MAX, TEXT_BYTES_MAX,
    exits::{PAGE as EXITS, PAGE_MAX as EXITS_MAX},
    range::{HOUR_MS, INTERVALS, INTERVALS_MAX},
    top::{LIMIT as TOP, LIMIT_MAX as TOP_MAX, MEMBERS},
};

/// Hours of the longest range.
pub(crate) const RANGE_HOURS_MAX: u32 = 168;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_range_is_said_once() {
        assert_eq!(
            i64::from(RANGE_HOURS_MAX) * HOUR_MS,
            super::super::range::RANGE_MS_MAX
        );
    }
}
