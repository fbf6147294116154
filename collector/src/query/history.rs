//! One process, or one name on one host, over time.

use super::{
    AskedRange, Coverage, Queries, QueryError, check_process_id, check_text, coverage::coverage,
    range::interval_ms,
};
use crate::{
    model::TimeRange,
    store::queries::{HistoryFilter, StepRow},
};

/// The range of a history without one: the last hour.
const RANGE_MS: i64 = 3_600_000;

/// Points of a history without a step: as many as a chart has room for.
const POINTS: i64 = 300;

/// Points a history may have, as in Prometheus.
const POINTS_MAX: i64 = 11_000;

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
    /// When the question cannot be answered as it stands, nobody ever heard of the process, or the store does not
    /// answer.
    pub async fn history(&self, query: &HistoryQuery, now_ms: i64) -> Result<History, QueryError> {
        check_text("host", &query.host)?;
        check_text("name", &query.name)?;
        let process_id = check_process_id(&query.process_id)?;
        if process_id.is_empty() && (query.host.is_empty() || query.name.is_empty()) {
            return Err(QueryError::invalid(
                "process_id",
                "is empty: name a process, or a host and a name",
            ));
        }
        let range = query.range.unwrap_or_default().or_last(RANGE_MS, now_ms)?;
        let _turn = self.turn().await?;
        let (host, name) = if process_id.is_empty() {
            (query.host.clone(), query.name.clone())
        } else {
            let host = self.store.process_host(&process_id, range).await?;
            let host =
                host.ok_or_else(|| QueryError::NotFound(format!("no process {process_id} is known")))?;
            (host, String::new())
        };
        let asked = [host];
        let rows = self.coverage_rows(range, &asked).await?;
        let coverage = coverage(&rows, range, &asked);
        let longest_interval_ns = rows.iter().map(|row| row.longest_interval_ns).max().unwrap_or(0);
        let step_ms = step(query.step_ms, range, longest_interval_ns)?;
        let [host] = asked;
        let one_process = !process_id.is_empty();
        let filter = HistoryFilter {
            range,
            step_ms,
            host,
            process_id,
            name,
            longest_interval_ns,
        };
        let steps = self.store.history(&filter).await?;
        Ok(History {
            range,
            step_ms,
            coverage,
            points: points(steps, range, step_ms, one_process),
        })
    }
}

/// The step that was asked for, or one that gives at most `POINTS` points of whole intervals.
fn step(asked_ms: u64, range: TimeRange, longest_interval_ns: u64) -> Result<i64, QueryError> {
    let length_ms = range.end_ms - range.start_ms;
    if asked_ms == 0 {
        let wanted_ms = length_ms.div_euclid(POINTS) + i64::from(length_ms.rem_euclid(POINTS) > 0);
        return Ok(wanted_ms.max(interval_ms(longest_interval_ns)).max(1));
    }
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
    Ok(step_ms)
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
    fn a_process_draws_nothing_where_it_did_not_live() {
        check(true, &[0, 3]);
    }

    #[test]
    fn a_name_is_zero_where_the_host_was_observed() {
        check(false, &[0, 1, 3]);
    }

    #[test]
    fn a_chosen_step_fits_a_chart_and_holds_whole_intervals() {
        let hour = TimeRange {
            start_ms: 0,
            end_ms: 3_600_000,
        };
        assert_eq!(step(0, hour, 1_000_000_000).unwrap(), 12_000);
        assert_eq!(step(0, hour, 60_000_000_000).unwrap(), 60_000);
        assert_eq!(step(0, RANGE, 1_000_000_001).unwrap(), 1_001);
    }

    #[test]
    fn too_many_points_are_refused_and_a_step_ends_with_the_range() {
        let week = TimeRange {
            start_ms: 0,
            end_ms: 168 * 3_600_000,
        };
        assert!(step(1_000, week, 0).is_err());
        assert_eq!(step(60_000, week, 0).unwrap(), 60_000);
        assert_eq!(step(u64::MAX, RANGE, 0).unwrap(), 10_000);
    }
}
