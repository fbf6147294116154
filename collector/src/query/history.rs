//! One process, or one name on one host, over time.

use super::{
    AskedRange, Coverage, Queries, QueryError, check_process_id, check_text,
    coverage::coverage,
    memory::TEXTS_BYTES,
    range::{HOUR_MS, interval_ms},
    windows::{floors, from_window, over, whole_windows},
};
use crate::{
    model::{MS_PER_DAY, TimeRange},
    store::{
        answers::{IdentityRow, StepRow},
        queries::HistoryFilter,
        rollups::Step,
    },
};

/// Points of a history without a step: as many as a chart has room for.
const POINTS: i64 = 300;

/// Points a history may have, as in Prometheus.
const POINTS_MAX: i64 = 11_000;

/// Lengths of a chosen step that read well, in milliseconds; longer ones are whole days.
const ROUND_MS: [i64; 20] = [
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    HOUR_MS,
    2 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    MS_PER_DAY,
];

/// A history as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryQuery {
    /// One process …
    pub process_id: String,
    /// … or all processes of a name on this host.
    pub host: String,
    /// The exact name.
    pub name: String,
    /// `None`: the last hour.
    pub range: Option<AskedRange>,
    /// Length of a point; 0: chosen.
    pub step_ms: u64,
}

/// A history.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// What it covers.
    pub range: TimeRange,
    /// Length of a point.
    pub step_ms: i64,
    /// How much of that the host observed.
    pub coverage: Coverage,
    /// One for each step.
    pub points: Vec<Point>,
    /// The process id and who that is; `None`: all processes of a name.
    pub process: Option<(String, IdentityRow)>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Where it starts.
    pub time_ms: i64,
    /// `None`: nothing is known of it.
    pub step: Option<StepRow>,
}

impl Queries {
    /// One process, or all processes of a name on a host, over time.
    ///
    /// # Errors
    /// When the question cannot be answered as it stands, nobody ever heard of the process or the host, nobody of the
    /// name was seen in the range, or the store does not answer.
    pub async fn history(&self, query: &HistoryQuery, now_ms: i64) -> Result<History, QueryError> {
        check_text("host", &query.host)?;
        check_text("name", &query.name)?;
        let process_id = check_process_id(&query.process_id)?;
        if process_id.is_empty() {
            check_subject(&query.host, &query.name)?;
        }
        let _turn = self.turn().await?;
        let ask = |_before| self.answered_history(query, process_id, now_ms);
        // What has no end is told of up to now, and never twice.
        let Some(asked) = query.range.filter(|range| range.end_ms.is_some()) else {
            return ask(None).await;
        };
        let range = asked.or_last(HOUR_MS, now_ms)?;
        let question = format!("history {range:?} {query:?} {:?}", floors(self.kept, now_ms));
        let bytes = |history: &History| history.points.len() * (size_of::<Point>() + TEXTS_BYTES);
        self.recalled(question, (range, true), bytes, ask).await
    }

    async fn answered_history(
        &self,
        query: &HistoryQuery,
        process_id: String,
        now_ms: i64,
    ) -> Result<History, QueryError> {
        let identity = if process_id.is_empty() {
            None
        } else {
            let range = query.range.unwrap_or_default().or_last(HOUR_MS, now_ms)?;
            let mut identity = self.store.process_identity(&process_id, range).await?;
            if identity.is_none() {
                identity = self.store.process_identity_hours(&process_id, range).await?;
            }
            let unknown = || QueryError::NotFound(format!("no process {process_id} is known"));
            Some(identity.ok_or_else(unknown)?)
        };
        let (host, name) = match &identity {
            Some(identity) => (identity.ran_on.clone(), String::new()),
            None => (query.host.clone(), query.name.clone()),
        };
        let asked = [host];
        let range = self
            .range_until_newest(query.range, HOUR_MS, &asked, now_ms)
            .await?;
        let window = self.history_window(range, now_ms);
        let end = TimeRange {
            start_ms: range.end_ms,
            ..range
        };
        let range = match window {
            Some(window) if self.has_samples(end, now_ms) => from_window(range, window, now_ms),
            Some(window) => whole_windows(range, window, now_ms),
            None => range,
        };
        let asked_step_ms = asked_step(query.step_ms, range)?;
        let rows = self.coverage_rows(range, &asked, None, now_ms).await?;
        let coverage = coverage(&rows, range, &asked);
        // One host, so at most one row.
        let usual_interval_ns = rows.first().map_or(0, |row| row.usual_interval_ns);
        let step_ms = asked_step_ms.unwrap_or_else(|| chosen_step(range, usual_interval_ns));
        let step_ms = window.map_or(step_ms, |window| up(step_ms, window.ms()));
        let [host] = asked;
        let process = identity.map(|identity| (process_id.clone(), identity));
        let filter = HistoryFilter {
            range,
            step_ms,
            host,
            process_id,
            name,
        };
        let steps = match window {
            Some(window) => self.history_of_windows(&filter, window, now_ms).await?,
            None => self.store.history(&filter).await?,
        };
        if process.is_none() && steps.iter().all(|step| step.seen == 0) {
            let (name, host) = (&filter.name, &filter.host);
            return Err(QueryError::NotFound(format!(
                "no process named {name} was seen on {host} in that range"
            )));
        }
        Ok(History {
            range,
            step_ms,
            coverage,
            points: points(steps, range, step_ms, process.is_some()),
            process,
        })
    }
}

impl Queries {
    /// Whole steps of windows that are over, and what came since from the samples; where these are gone all windows that
    /// are over.
    async fn history_of_windows(
        &self,
        filter: &HistoryFilter,
        window: Step,
        now_ms: i64,
    ) -> Result<Vec<StepRow>, QueryError> {
        let TimeRange { start_ms, end_ms } = filter.range;
        let part = |start_ms, end_ms| HistoryFilter {
            range: TimeRange { start_ms, end_ms },
            ..filter.clone()
        };
        let number = over(filter.range, filter.step_ms, now_ms);
        let since = part(start_ms + number * filter.step_ms, end_ms);
        if since.range.start_ms >= end_ms || !self.has_samples(since.range, now_ms) {
            let windows = whole_windows(filter.range, window, now_ms);
            let all = part(windows.start_ms, windows.end_ms);
            return Ok(self.store.history_windows(&all, window).await?);
        }
        let before = part(start_ms, since.range.start_ms);
        let mut steps = self.store.history_windows(&before, window).await?;
        let before = u64::try_from(number).unwrap_or(0);
        let samples = self.store.history(&since).await?.into_iter();
        steps.extend(samples.map(|step| StepRow {
            step: before + step.step,
            ..step
        }));
        Ok(steps)
    }
}

/// The least multiple of a step that is not below.
fn up(ms: i64, step_ms: i64) -> i64 {
    -((-ms).div_euclid(step_ms) * step_ms)
}

/// The step that was asked for; `None`: it is left to us.
fn asked_step(asked_ms: u64, range: TimeRange) -> Result<Option<i64>, QueryError> {
    if asked_ms == 0 {
        return Ok(None);
    }
    let length_ms = range.end_ms - range.start_ms;
    let step_ms = i64::try_from(asked_ms).unwrap_or(i64::MAX).min(length_ms);
    if length_ms / step_ms > POINTS_MAX {
        return Err(QueryError::invalid(
            "step_ms",
            format!(
                "gives {} points, more than {POINTS_MAX}: take a longer step",
                length_ms / step_ms
            ),
        ));
    }
    Ok(Some(step_ms))
}

/// The least round step that gives at most `POINTS` points and holds an interval as they usually are. Drains come a
/// little late, so an interval may be a tenth longer than the step.
fn chosen_step(range: TimeRange, usual_interval_ns: u64) -> i64 {
    let length_ms = range.end_ms - range.start_ms;
    let chart_ms = length_ms.div_euclid(POINTS) + i64::from(length_ms.rem_euclid(POINTS) > 0);
    let least_ms = chart_ms.max(interval_ms(usual_interval_ns) * 10 / 11);
    let days = least_ms.div_euclid(MS_PER_DAY) + i64::from(least_ms.rem_euclid(MS_PER_DAY) > 0);
    let round_ms = ROUND_MS.into_iter().find(|round_ms| *round_ms >= least_ms);
    round_ms.unwrap_or(days * MS_PER_DAY)
}

/// A history is of one process, or of a name on a host: what is missing is named.
fn check_subject(host: &str, name: &str) -> Result<(), QueryError> {
    let (field, reason) = match (host, name) {
        ("", "") => ("process_id", "is empty: name a process, or a host and a name"),
        ("", _) => ("host", "is empty: a name needs a host"),
        (_, "") => ("name", "is empty: a host needs a name"),
        _ => return Ok(()),
    };
    Err(QueryError::invalid(field, reason))
}

/// A point for each step of the range. A process that has no row in a step draws nothing there, because it did not
/// live; a name without a row is zero where the host was observed, because all of its processes did not live.
fn points(steps: Vec<StepRow>, range: TimeRange, step_ms: i64, one_process: bool) -> Vec<Point> {
    let mut steps = steps
        .into_iter()
        .filter(|step| step.seen == 1 || !one_process)
        .peekable();
    let mut points = Vec::new();
    let mut time_ms = range.start_ms;
    for number in 0.. {
        if time_ms >= range.end_ms {
            break;
        }
        points.push(Point {
            time_ms,
            step: steps.next_if(|step| step.step == number),
        });
        time_ms += step_ms;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: TimeRange = TimeRange {
        start_ms: 1_000,
        end_ms: 11_000,
    };

    fn row(step: u64, seen: u8) -> StepRow {
        StepRow {
            step,
            seen,
            avg_cpu_percent: 1.0,
            cpu_seconds: 1.0,
            avg_memory_mb: None,
            peak_memory_mb: None,
            avg_num_procs: 1.0,
            runqueue_seconds: None,
            threads: None,
            cpu_time_ns: None,
            avg_user_percent: None,
            avg_system_percent: None,
            runqueue_waits: None,
            read_bytes: None,
            written_bytes: None,
            read_operations: None,
            write_operations: None,
            disk_read_bytes: None,
            disk_written_bytes: None,
            peak_open_file_descriptors: None,
            exec_generation: None,
            cgroup_id: None,
            lifetime_peak_rss_bytes: None,
            ended_threads_cpu_seconds: None,
            runqueue_wait_counts: Vec::new(),
        }
    }

    fn check(one_process: bool, known: &[u64]) {
        let points = points(vec![row(0, 1), row(1, 0), row(3, 1)], RANGE, 2_000, one_process);
        assert_eq!(
            points.iter().map(|p| p.time_ms).collect::<Vec<_>>(),
            [1_000, 3_000, 5_000, 7_000, 9_000]
        );
        let filled: Vec<_> = points
            .iter()
            .filter_map(|p| p.step.as_ref().map(|step| step.step))
            .collect();
        assert_eq!(filled, known);
    }

    #[test]
    fn half_a_subject_is_told_the_other_half() {
        for (host, name, says) in [
            ("", "", "process_id: "),
            ("", "bash", "host: is empty: a name needs a host"),
            ("vm", "", "name: is empty: a host needs a name"),
        ] {
            let refused = check_subject(host, name).unwrap_err().to_string();
            assert!(refused.starts_with(says), "{refused}");
        }
        assert!(check_subject("vm", "bash").is_ok());
    }

    #[test]
    fn a_process_draws_nothing_where_it_did_not_live() {
        check(true, &[0, 3]);
    }

    #[test]
    fn a_name_is_zero_where_the_host_was_observed() {
        check(false, &[0, 1, 3]);
    }

    #[test]
    fn a_chosen_step_is_round_and_fits_a_chart_and_an_interval() {
        for (length_ms, usual_ms, step_ms) in [
            (10_000, 100, 100),
            (60_000, 1_000, 1_000),
            (HOUR_MS, 1_000, 15_000),
            (HOUR_MS, 10_000, 15_000),
            (HOUR_MS, 60_000, 60_000),
            // A drain that comes late by a little makes no step twice as long, one that takes half as long again does.
            (60_000, 1_090, 1_000),
            (60_000, 1_500, 2_000),
            (24 * HOUR_MS, 1_000, 300_000),
            (168 * HOUR_MS, 1_000, HOUR_MS),
            (300 * MS_PER_DAY, 1_000, MS_PER_DAY),
            (301 * MS_PER_DAY, 1_000, 2 * MS_PER_DAY),
        ] {
            let range = TimeRange {
                start_ms: 0,
                end_ms: length_ms,
            };
            let usual_interval_ns = usual_ms * 1_000_000;
            assert_eq!(
                chosen_step(range, usual_interval_ns),
                step_ms,
                "{length_ms} {usual_ms}"
            );
        }
    }

    #[test]
    fn too_many_points_are_refused_and_a_step_ends_with_the_range() {
        let week = TimeRange {
            start_ms: 0,
            end_ms: 168 * HOUR_MS,
        };
        assert!(asked_step(1_000, week).is_err());
        assert_eq!(asked_step(60_000, week).unwrap(), Some(60_000));
        assert_eq!(asked_step(u64::MAX, RANGE).unwrap(), Some(10_000));
        assert_eq!(asked_step(0, RANGE).unwrap(), None);
    }
}
