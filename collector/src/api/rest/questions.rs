//! Parameters into questions to the query layer, with the words of the interface.

use std::time::Duration;

use super::params::Given;
use crate::{
    api::problem::Problem,
    query::{AuditQuery, ExitsQuery, GroupBy, GroupsQuery, HistoryQuery, Metric, TopQuery},
};

pub(super) fn top(asked: &Given) -> TopQuery {
    TopQuery {
        range: Some(asked.range()),
        ..live(asked)
    }
}

pub(super) fn live(asked: &Given) -> TopQuery {
    TopQuery {
        hosts: asked.texts("host"),
        metric: match asked.word("metric") {
            "memory" => Metric::Memory,
            "peak_memory" => Metric::PeakMemory,
            "runqueue" => Metric::Runqueue,
            "io" => Metric::Io,
            "faults" => Metric::Faults,
            "switches" => Metric::Switches,
            _ => Metric::Cpu,
        },
        limit: asked.integer("limit"),
        group_by: match asked.word("group_by") {
            "process" => GroupBy::Process,
            "container" => GroupBy::Container,
            "pod" => GroupBy::Pod,
            "user" => GroupBy::User,
            "host" => GroupBy::Host,
            _ => GroupBy::Command,
        },
        range: None,
        last_intervals: asked.integer("intervals"),
        name_contains: asked.text("name_contains"),
    }
}

pub(super) fn history(asked: &Given) -> Result<HistoryQuery, Problem> {
    let process_id = asked.text("process_id");
    let (host, name) = (asked.texts("host"), asked.text("name"));
    if !process_id.is_empty() && (!host.is_empty() || !name.is_empty()) {
        return Err(Problem::field(
            "process_id",
            "says which process, and so do host and name: take one of them",
        ));
    }
    let [host] = <[String; 1]>::try_from(host).or_else(|hosts| match &*hosts {
        [] => Ok([String::new()]),
        _ => Err(Problem::field("host", "is given twice: a history is of one host")),
    })?;
    let step = asked.duration("step");
    if asked.has("step") && step.is_zero() {
        return Err(Problem::field("step", "is no length"));
    }
    Ok(HistoryQuery {
        process_id,
        host,
        name,
        range: Some(asked.range()),
        step_ms: u64::try_from(step.as_millis()).unwrap_or(u64::MAX),
    })
}

pub(super) fn groups(asked: &Given) -> GroupsQuery {
    GroupsQuery {
        base: asked.text("base"),
        regex: asked.text("regex"),
        group: asked.text("group"),
        hosts: asked.texts("host"),
        range: Some(asked.range()),
        limit: asked.integer("limit"),
    }
}

pub(super) fn exits(asked: &Given) -> Result<ExitsQuery, Problem> {
    let max_lifetime = asked.duration("max_lifetime");
    if asked.has("max_lifetime") && max_lifetime == Duration::ZERO {
        return Err(Problem::field("max_lifetime", "is no length"));
    }
    Ok(ExitsQuery {
        hosts: asked.texts("host"),
        name: asked.text("name"),
        range: Some(asked.range()),
        max_lifetime_ns: u64::try_from(max_lifetime.as_nanos()).unwrap_or(u64::MAX),
        failed: asked.flag("failed"),
        page_size: asked.integer("limit"),
        page_token: asked.text("page_token"),
        process_id: asked.text("process_id"),
    })
}

pub(super) fn audit(asked: &Given) -> AuditQuery {
    AuditQuery {
        hosts: asked.texts("host"),
        range: Some(asked.range()),
    }
}
