//! A time without a stream, and what of it the log knows. Pure.

use std::time::{Duration, Instant};

/// The log is told of a collector that stays away at most so often.
const SAID_EVERY: Duration = Duration::from_mins(1);

/// A time without a stream, and what of it the log knows. Pure.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    said: Option<Instant>,
    /// The log knows that the collector is there and refuses.
    refusal_said: bool,
}

impl Outage {
    /// Another try has failed; how long it has been when that is worth a line: at once, then once a minute. That
    /// a collector refuses is news of its own, once.
    pub(super) fn tried_in_vain(&mut self, refused: bool, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let due = self
            .said
            .is_none_or(|said| now.saturating_duration_since(said) >= SAID_EVERY);
        if !due && (!refused || self.refusal_said) {
            return None;
        }
        self.said = Some(now);
        self.refusal_said |= refused;
        Some(now.saturating_duration_since(since))
    }

    /// The collector is back; how long it was away, if it was.
    pub(super) fn end(&mut self, now: Instant) -> Option<Duration> {
        let since = std::mem::take(self).since?;
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_stays_away_is_said_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        let said: Vec<u64> = (0..=130)
            .step_by(5)
            .filter_map(|seconds| outage.tried_in_vain(false, at(seconds)))
            .map(|lasted| lasted.as_secs())
            .collect();
        assert_eq!(said, [0, 60, 120]);
        assert_eq!(outage.end(at(131)), Some(Duration::from_secs(131)));
        assert_eq!(outage.end(at(131)), None);
        assert_eq!(outage.tried_in_vain(false, at(132)), Some(Duration::ZERO));
    }

    #[test]
    fn a_refusal_is_said_at_once_and_not_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        let tries = [
            (false, 0),
            (true, 1),
            (true, 16),
            (false, 20),
            (true, 30),
            (true, 61),
        ];
        let said: Vec<bool> = tries
            .into_iter()
            .map(|(refused, seconds)| outage.tried_in_vain(refused, at(seconds)).is_some())
            .collect();
        assert_eq!(said, [true, true, false, false, false, true]);
    }
}
