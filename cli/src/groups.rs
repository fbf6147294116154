//! `groups`: processes whose names share a beginning, match an expression or are a configured group, together.

use procscope_proto::v1::{
    Host, ListGroupsRequest, ListGroupsResponse, ListTopProcessesResponse, TopProcess,
};
use procscope_startup::Result;

use crate::{
    args::{self, By, Groups},
    client::Client,
    config::Settings,
    data::{Answer, Value},
    heading,
    output::{self, Page},
    records, text, top, units,
};

/// The collector gives at most so many members.
const LIMIT_MAX: u32 = 1000;

/// Asks and prints.
pub(crate) async fn run(groups: &Groups, settings: &Settings) -> Result<()> {
    let request = ListGroupsRequest {
        base: groups.base.clone().unwrap_or_default(),
        regex: groups.regex.clone().unwrap_or_default(),
        group: groups.group.clone().unwrap_or_default(),
        hosts: settings.hosts.clone(),
        range: settings.range,
        limit: settings.limit_up_to(LIMIT_MAX, args::TOP_LIMIT)?,
    };
    let mut client = Client::connect(settings).await?;
    let response = client.groups(request).await?;
    let hosts = client.hosts_within(response.range).await;
    output::print(
        settings.format,
        || answer(&response),
        |width| page(groups, &response, &hosts, width),
    )
}

fn answer(response: &ListGroupsResponse) -> Answer {
    let mut head = records::head(response.range.as_ref(), response.coverage.as_ref());
    head.push((
        "total",
        response
            .total
            .as_ref()
            .map_or(Value::Null, |total| Value::Object(records::top_process(total))),
    ));
    head.push((
        "avg_cpu_percent_per_process",
        response.avg_cpu_percent_per_process.into(),
    ));
    head.push((
        "avg_memory_mb_per_process",
        response.avg_memory_mb_per_process.into(),
    ));
    Answer {
        head,
        rows_name: "members",
        rows: response.members.iter().map(records::top_process).collect(),
        blank: records::top_process(&TopProcess::default()),
    }
}

fn page(groups: &Groups, response: &ListGroupsResponse, hosts: &[Host], width: usize) -> Page {
    let about = match (&groups.base, &groups.regex) {
        (Some(base), _) => format!("group {}*", text::safe(base)),
        (None, Some(regex)) => format!("group /{}/", text::safe(regex)),
        (None, None) => format!(
            "group {}",
            text::safe(groups.group.as_deref().unwrap_or_default())
        ),
    };
    let members = &response.members;
    let hosts = heading::Hosts::seen(hosts, members.iter().flat_map(|member| &member.hosts));
    let mut heading = heading::lines(
        &about,
        response.range.as_ref(),
        &hosts,
        response.coverage.as_ref(),
        width,
    );
    if let Some(total) = &response.total {
        heading.push(text::fit(&total_line(total, response), width));
    }
    let by = if members.iter().any(|member| member.pid.is_some()) {
        By::Process
    } else {
        By::Command
    };
    let table = top::table(
        by,
        &ListTopProcessesResponse {
            range: response.range,
            coverage: response.coverage.clone(),
            processes: members.clone(),
            ..ListTopProcessesResponse::default()
        },
    );
    let notes = if members.is_empty() {
        vec!["no process of such a name ran in this time".to_owned()]
    } else {
        Vec::new()
    };
    Page {
        heading,
        table: Some(table),
        notes,
        ..Page::default()
    }
}

fn total_line(total: &TopProcess, response: &ListGroupsResponse) -> String {
    let memory = |mib: Option<f64>| mib.map_or_else(|| "-".to_owned(), units::mebibytes);
    format!(
        "all together: {} processes, CPU {} % ({}), memory {} (peak {}); each: CPU {} %, memory {}",
        units::mean(total.avg_num_procs),
        units::percent(total.avg_cpu_percent),
        units::seconds(total.cpu_seconds),
        memory(total.avg_memory_mb),
        memory(total.peak_memory_mb),
        units::percent(response.avg_cpu_percent_per_process),
        // Kernel threads have no memory at all.
        memory(total.avg_memory_mb.map(|_| response.avg_memory_mb_per_process)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_stands_beside_the_members() {
        let total = TopProcess {
            name: "w".to_owned(),
            avg_cpu_percent: 30.0,
            avg_num_procs: 3.0,
            avg_memory_mb: Some(3.0),
            ..Default::default()
        };
        let response = ListGroupsResponse {
            total: Some(total),
            avg_cpu_percent_per_process: 10.0,
            avg_memory_mb_per_process: 1.0,
            ..Default::default()
        };
        let head = answer(&response).head;
        assert!(head.contains(&("avg_cpu_percent_per_process", Value::Float(10.0))));
        assert_eq!(
            total_line(response.total.as_ref().unwrap(), &response),
            "all together: 3 processes, CPU 30.0 % (0), memory 3.00 MiB (peak -); each: CPU 10.0 %, memory 1.00 MiB"
        );
    }
}
