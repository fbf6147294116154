//! Answers in JSON: the messages of gRPC with the range and the words written out.

use procscope_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::convert::text_of;

/// The processes or groups that used most of something.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Top {
    /// What it is ranked by.
    metric: String,
    /// What a row stands for.
    group_by: String,
    #[serde(flatten)]
    range: Range,
    coverage: Option<v1::Coverage>,
    /// Most first.
    processes: Vec<v1::TopProcess>,
}

/// What an answer covers: [`start`, `end`).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Range {
    #[schema(format = DateTime)]
    start: String,
    #[schema(format = DateTime)]
    end: String,
    /// The `hours` that were asked for; only when they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_range_hours: Option<u32>,
}

/// One process, or all processes of a name on a host, over time.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct History {
    #[serde(flatten)]
    range: Range,
    /// Length of a point.
    step_ms: u64,
    coverage: Option<v1::Coverage>,
    /// Who it is, when one process was asked for.
    process: Option<v1::ProcessIdentity>,
    /// In the order of time; a step of which nothing is known has `gap`.
    points: Vec<v1::HistoryPoint>,
}

/// A group of processes by their names.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Groups {
    #[serde(flatten)]
    range: Range,
    coverage: Option<v1::Coverage>,
    /// All members as one; null when no process matched.
    total: Option<v1::TopProcess>,
    /// CPU of the group divided by its mean number of processes.
    avg_cpu_percent_per_process: f64,
    /// Memory of the group divided by its mean number of processes.
    avg_memory_mb_per_process: f64,
    /// By name, most CPU first.
    members: Vec<v1::TopProcess>,
}

/// A page of processes that ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Exits {
    #[serde(flatten)]
    range: Range,
    coverage: Option<v1::Coverage>,
    /// How many there are on all pages together.
    total: u64,
    /// What `page_token` of the next page is; empty on the last one.
    next_page_token: String,
    /// Newest first.
    #[serde(rename = "exits")]
    rows: Vec<v1::ExitedProcess>,
}

/// Hosts that sent something within the range.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Hosts {
    #[serde(flatten)]
    range: Range,
    /// In the order of names.
    hosts: Vec<v1::Host>,
}

/// Where each CPU-second of each host went.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Audit {
    #[serde(flatten)]
    range: Range,
    coverage: Option<v1::Coverage>,
    /// One for each host, in the order of names.
    rows: Vec<v1::AuditRow>,
}

impl Range {
    fn new(range: Option<v1::TimeRange>, hours: Option<u32>) -> Self {
        let range = range.unwrap_or_default();
        Self {
            start: range.start.map_or_else(String::new, text_of),
            end: range.end.map_or_else(String::new, text_of),
            time_range_hours: hours,
        }
    }
}

/// `GROUP_BY_POD` as `pod`.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

impl Top {
    pub(crate) fn new(answer: v1::ListTopProcessesResponse, hours: Option<u32>) -> Self {
        Self {
            metric: word(answer.metric().as_str_name(), "METRIC_"),
            group_by: word(answer.group_by().as_str_name(), "GROUP_BY_"),
            range: Range::new(answer.range, hours),
            coverage: answer.coverage,
            processes: answer.processes,
        }
    }
}

impl History {
    pub(crate) fn new(answer: v1::GetProcessHistoryResponse, hours: Option<u32>) -> Self {
        Self {
            range: Range::new(answer.range, hours),
            step_ms: answer.step_ms,
            coverage: answer.coverage,
            process: answer.process,
            points: answer.points,
        }
    }
}

impl Groups {
    pub(crate) fn new(answer: v1::ListGroupsResponse, hours: Option<u32>) -> Self {
        Self {
            range: Range::new(answer.range, hours),
            coverage: answer.coverage,
            total: answer.total,
            avg_cpu_percent_per_process: answer.avg_cpu_percent_per_process,
            avg_memory_mb_per_process: answer.avg_memory_mb_per_process,
            members: answer.members,
        }
    }
}

impl Exits {
    pub(crate) fn new(answer: v1::ListProcessExitsResponse, hours: Option<u32>) -> Self {
        Self {
            range: Range::new(answer.range, hours),
            coverage: answer.coverage,
            total: answer.total,
            next_page_token: answer.next_page_token,
            rows: answer.exits,
        }
    }
}

impl Hosts {
    pub(crate) fn new(answer: v1::ListHostsResponse, hours: Option<u32>) -> Self {
        Self {
            range: Range::new(answer.range, hours),
            hosts: answer.hosts,
        }
    }
}

impl Audit {
    pub(crate) fn new(answer: v1::GetAuditResponse, hours: Option<u32>) -> Self {
        Self {
            range: Range::new(answer.range, hours),
            coverage: answer.coverage,
            rows: answer.rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn what_is_not_known_is_null() {
        let blank = v1::TopProcess {
            container_id: Some(String::new()),
            ..v1::TopProcess::default()
        };
        let blank = to_value(blank).unwrap();
        for field in [
            "container_id",
            "pod_uid",
            "exe",
            "source",
            "runqueue_wait_counts",
            "start_time",
        ] {
            assert!(blank[field].is_null(), "{field}: {}", blank[field]);
        }
        let exit = v1::ExitedProcess {
            container_id: "abc".to_owned(),
            ..v1::ExitedProcess::default()
        };
        let exit = to_value(exit).unwrap();
        assert_eq!(exit["container_id"], "abc");
        assert!(exit["exe"].is_null() && exit["pod_uid"].is_null());
        let point = v1::HistoryPoint {
            runqueue_wait_counts: vec![1, 0],
            ..v1::HistoryPoint::default()
        };
        assert_eq!(to_value(point).unwrap()["runqueue_wait_counts"], json!([1, 0]));
    }
}
