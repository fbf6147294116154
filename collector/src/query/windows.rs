//! Where an answer is read from: samples, minutes or hours, whatever is coarsest and gives the same sums.

use super::{Queries, QueryError, range::HOUR_MS};
use crate::{
    model::TimeRange,
    retention::Retention,
    store::{cut::Cut, rollups::Step},
};

/// How long after its end a minute is still being written and computed: until then it is read from the samples.
const SETTLED_AFTER_MS: i64 = 120_000;

/// How often a question is asked again because minutes or hours were computed meanwhile.
pub(super) const TRIES: u32 = 3;

/// Parts of a table go at times of their own: so far from their end rows are not counted on.
const SAFE_MS: i64 = HOUR_MS;

/// The first instants of which samples, and minutes, can be counted on.
pub(super) fn floors(kept: Retention, now_ms: i64) -> (i64, i64) {
    let floor = |kept_ms: i64| {
        let first_ms = now_ms.saturating_sub(kept_ms).saturating_add(SAFE_MS);
        -((-first_ms).div_euclid(HOUR_MS) * HOUR_MS)
    };
    (floor(kept.samples_ms()), floor(kept.minutes_ms()))
}

/// The range that can be answered: an end that lies before the first samples goes outwards, to where a minute or an hour
/// begins or ends.
pub(super) fn answerable(range: TimeRange, kept: Retention, now_ms: i64) -> TimeRange {
    let (samples_ms, minutes_ms) = floors(kept, now_ms);
    let step = |ms: i64| match ms {
        ms if ms < minutes_ms => Step::Hour.ms(),
        ms if ms < samples_ms => Step::Minute.ms(),
        _ => 1,
    };
    let (first, last) = (step(range.start_ms), step(range.end_ms));
    TimeRange {
        start_ms: range.start_ms.div_euclid(first) * first,
        end_ms: -((-range.end_ms).div_euclid(last) * last),
    }
}

/// The range of a history that is made of windows: outwards at its start, and up to the last that is over.
pub(super) fn whole_windows(range: TimeRange, window: Step, now_ms: i64) -> TimeRange {
    let down = |ms: i64| ms.div_euclid(window.ms()) * window.ms();
    let start_ms = down(range.start_ms);
    let end_ms = range.end_ms.min(now_ms - SETTLED_AFTER_MS);
    TimeRange {
        start_ms,
        end_ms: down(end_ms).max(start_ms + window.ms()),
    }
}

impl Queries {
    /// What a history is made of that begins before the samples do; `None`: of samples.
    pub(super) fn history_window(&self, range: TimeRange, now_ms: i64) -> Option<Step> {
        let (samples_ms, minutes_ms) = floors(self.kept, now_ms);
        match range.start_ms {
            start_ms if start_ms >= samples_ms => None,
            start_ms if start_ms >= minutes_ms => Some(Step::Minute),
            _ => Some(Step::Hour),
        }
    }

    /// How a range is read: the coarsest way the first times, samples only where others compute without end or where
    /// `exact` needs every instant and there still is every one.
    pub(super) async fn cut(
        &self,
        range: TimeRange,
        hosts: &[String],
        every_instant: bool,
        attempt: u32,
        now_ms: i64,
    ) -> Result<Cut, QueryError> {
        let (samples_ms, _) = floors(self.kept, now_ms);
        let has_samples = range.start_ms >= samples_ms;
        if has_samples && (every_instant || attempt + 1 >= TRIES) {
            return Ok(Cut::samples(range));
        }
        let coarsest = Cut::coarsest(range, now_ms - SETTLED_AFTER_MS);
        let mut weighed = self.store.weighed(coarsest, hosts).await?;
        if has_samples && let Some(cut) = weighed.take_if(|cut| cut.has_costly_minutes()) {
            weighed = self.store.weighed(cut.without_minutes(), hosts).await?;
        }
        Ok(weighed.unwrap_or_else(|| Cut::samples(range)))
    }

    /// How the coverage of a range is read, where it is long enough for more than samples or reaches beyond them. It
    /// begins with samples where there are any, because the first interval counts with its part inside.
    pub(super) async fn coverage_cut(
        &self,
        range: TimeRange,
        hosts: &[String],
        now_ms: i64,
    ) -> Result<Option<Cut>, QueryError> {
        let (samples_ms, _) = floors(self.kept, now_ms);
        let has_samples = range.start_ms >= samples_ms;
        let settled_ms = now_ms - SETTLED_AFTER_MS;
        let cut = if has_samples {
            Cut::coarsest_after_samples(range, settled_ms)
        } else {
            Cut::coarsest(range, settled_ms)
        };
        if cut.has_hours() || (cut.has_windows() && !has_samples) {
            return Ok(self.store.weighed(cut, hosts).await?);
        }
        Ok(None)
    }

    /// Whether what was read as `cut` says belongs together; after the last attempt it is taken as it is.
    pub(super) async fn holds(&self, cut: &Cut, hosts: &[String], attempt: u32) -> Result<bool, QueryError> {
        Ok(attempt + 1 >= TRIES || self.store.still(cut, hosts).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MS_PER_DAY;

    #[test]
    fn an_end_that_cannot_be_cut_exactly_goes_outwards() {
        let now_ms = 1_000 * MS_PER_DAY;
        let check = |start_days: i64, end_days: i64, start_step: i64, end_step: i64| {
            let range = TimeRange {
                start_ms: now_ms - start_days * MS_PER_DAY + 1,
                end_ms: now_ms - end_days * MS_PER_DAY + 1,
            };
            let got = answerable(range, Retention::default(), now_ms);
            let expected = TimeRange {
                start_ms: range.start_ms - i64::from(start_step > 1),
                end_ms: range.end_ms - 1 + end_step,
            };
            assert_eq!(got, expected, "{start_days} {end_days}");
        };
        check(6, 1, 1, 1);
        check(8, 1, 60_000, 1);
        check(9, 8, 60_000, 60_000);
        check(40, 8, HOUR_MS, 60_000);
        check(40, 31, HOUR_MS, HOUR_MS);
    }
}
