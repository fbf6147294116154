//! Where an answer is read from: samples, minutes or hours, whatever is coarsest and gives the same sums.

use std::sync::Arc;

use super::{Queries, QueryError, range::HOUR_MS};
use crate::{
    model::TimeRange,
    retention::Retention,
    store::{cut::Cut, parts::Parts, rollups::Step},
};

/// How long after its end a minute is still being written and computed: until then it is read from the samples.
const SETTLED_AFTER_MS: i64 = 120_000;

/// How often a question is asked again because minutes or hours were computed meanwhile.
const TRIES: u32 = 3;

/// Parts of a table go at times of their own: so far from their end rows are not counted on.
const SAFE_MS: i64 = HOUR_MS;

/// One of the times that a question is asked, and the parts of the store before it, where they are known.
#[derive(Debug)]
pub(super) struct Attempt {
    number: u32,
    parts: Option<Arc<Parts>>,
}

impl Attempt {
    /// All of them; `before` is known before the first.
    pub(super) fn all(before: Option<Arc<Parts>>) -> impl Iterator<Item = Self> {
        let first = Self {
            number: 1,
            parts: before,
        };
        let more = (2..=TRIES).map(|number| Self { number, parts: None });
        std::iter::once(first).chain(more)
    }

    fn is_last(&self) -> bool {
        self.number >= TRIES
    }
}

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

/// The same where samples tell of its end: it ends where it was asked to.
pub(super) fn from_window(range: TimeRange, window: Step, now_ms: i64) -> TimeRange {
    TimeRange {
        end_ms: range.end_ms,
        ..whole_windows(range, window, now_ms)
    }
}

/// Steps of a range, from its start, of whose windows all are over.
pub(super) fn over(range: TimeRange, step_ms: i64, now_ms: i64) -> i64 {
    let end_ms = range.end_ms.min(now_ms - SETTLED_AFTER_MS);
    (end_ms - range.start_ms).div_euclid(step_ms).max(0)
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

    /// Whether all samples of a range are still kept.
    pub(super) fn has_samples(&self, range: TimeRange, now_ms: i64) -> bool {
        let (samples_ms, _) = floors(self.kept, now_ms);
        range.start_ms >= samples_ms
    }

    /// How a range is read: the coarsest way the first times, samples only where others compute without end or where
    /// `exact` needs every instant and there still is every one.
    pub(super) async fn cut(
        &self,
        range: TimeRange,
        hosts: &[String],
        every_instant: bool,
        attempt: &mut Attempt,
        now_ms: i64,
    ) -> Result<Cut, QueryError> {
        let has_samples = self.has_samples(range, now_ms);
        if has_samples && (every_instant || attempt.is_last()) {
            return Ok(Cut::samples(range));
        }
        let coarsest = Cut::coarsest(range, now_ms - SETTLED_AFTER_MS);
        let mut weighed = self.weighed(coarsest, hosts, &mut attempt.parts).await?;
        if has_samples && let Some(cut) = weighed.take_if(|cut| cut.has_costly_minutes()) {
            weighed = self
                .weighed(cut.without_minutes(), hosts, &mut attempt.parts)
                .await?;
        }
        Ok(weighed.unwrap_or_else(|| Cut::samples(range)))
    }

    /// What the windows of a cut are worth, which is the same for all who ask for its minutes and hours while the store
    /// is; what was asked for beside them is their own.
    async fn weighed(
        &self,
        cut: Cut,
        hosts: &[String],
        parts: &mut Option<Arc<Parts>>,
    ) -> Result<Option<Cut>, QueryError> {
        if !cut.has_windows() {
            return Ok(Some(cut));
        }
        let (range, windows) = (cut.range, cut.of_windows());
        let question = format!("windows {windows:?} {hosts:?}");
        if parts.is_none() && self.memory.was_asked(&question) {
            *parts = self.store.parts().await;
        }
        let seen = parts.as_ref().map(|parts| parts.of(windows.range));
        if let Some(seen) = seen
            && let Some(weighed) = self.memory.get::<Option<Cut>>(&question, seen)
        {
            return Ok(weighed.map(|weighed| weighed.within(range)));
        }
        let weighed = self.store.weighed(windows, hosts).await?;
        if let Some(seen) = seen {
            // When the store changed meanwhile its digest is that of nobody who asks from now on.
            let bytes = weighed.as_ref().map_or(0, Cut::bytes);
            self.memory.put(question, seen, weighed.clone(), bytes);
        }
        Ok(weighed.map(|weighed| weighed.within(range)))
    }

    /// How the coverage of a range is read, where it is long enough for more than samples or reaches beyond them.
    pub(super) async fn coverage_cut(
        &self,
        range: TimeRange,
        hosts: &[String],
        now_ms: i64,
    ) -> Result<Option<Cut>, QueryError> {
        let has_samples = self.has_samples(range, now_ms);
        let cut = Cut::coarsest(range, now_ms - SETTLED_AFTER_MS);
        if cut.has_hours() || (cut.has_windows() && !has_samples) {
            return self.weighed(cut, hosts, &mut None).await;
        }
        Ok(None)
    }

    /// Whether what was read as `cut` says belongs together; after the last attempt it is taken as it is.
    pub(super) async fn holds(
        &self,
        cut: &Cut,
        hosts: &[String],
        attempt: &Attempt,
    ) -> Result<bool, QueryError> {
        if attempt.is_last() || !cut.has_windows() {
            return Ok(true);
        }
        if let Some(before) = &attempt.parts
            && let Some(now) = self.store.parts().await
            && now.of(cut.range) == before.of(cut.range)
        {
            return Ok(true);
        }
        Ok(self.store.still(cut, hosts).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MS_PER_DAY;

    #[test]
    fn a_history_of_windows_ends_with_a_whole_one_unless_samples_tell_the_rest() {
        let now_ms = 1_000 * MS_PER_DAY;
        let asked = TimeRange {
            start_ms: 1,
            end_ms: 5 * HOUR_MS + 7,
        };
        let whole = whole_windows(asked, Step::Hour, now_ms);
        assert_eq!((whole.start_ms, whole.end_ms), (0, 5 * HOUR_MS));
        let joined = from_window(asked, Step::Hour, now_ms);
        assert_eq!((joined.start_ms, joined.end_ms), (0, asked.end_ms));
        // Of three steps of two hours two are over; of what is not over yet none is.
        assert_eq!(over(joined, 2 * HOUR_MS, now_ms), 2);
        assert_eq!(over(joined, 2 * HOUR_MS, 2 * HOUR_MS), 0);
    }

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
