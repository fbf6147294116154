//! `hosts`: who sent something, when last, and how much of the time was seen.

use jiff::Timestamp;
use procscope_proto::v1::{Host, ListHostsRequest, ListHostsResponse};
use procscope_startup::{Failure, Result};

use crate::{
    client::Client,
    clock,
    config::Settings,
    data::Answer,
    heading,
    output::{self, Page},
    records,
    table::{Column, Table},
    text, units,
    when::{self, from_wire},
};

/// Asks and prints.
pub(crate) async fn run(settings: &Settings) -> Result<()> {
    let mut response = Client::connect(settings)
        .await?
        .hosts(ListHostsRequest {
            range: settings.range,
        })
        .await?;
    let all = select(&mut response, settings)?;
    output::print(
        settings.format,
        || answer(&response),
        |width| page(&response, all, clock::now(), width),
    )
}

/// Keeps the hosts that were asked for, up to the limit; how many there were.
fn select(response: &mut ListHostsResponse, settings: &Settings) -> Result<usize> {
    if !settings.hosts.is_empty() {
        if let Some(missing) = settings
            .hosts
            .iter()
            .find(|name| response.hosts.iter().all(|h| h.host != **name))
        {
            return Err(Failure::failed(format_args!(
                "no host `{}` sent anything to {} in this time; see `procscope hosts`, or ask for longer with --since",
                text::safe(missing),
                settings.server
            )));
        }
        response.hosts.retain(|host| settings.hosts.contains(&host.host));
    }
    let all = response.hosts.len();
    response.hosts.truncate(settings.rows_max());
    Ok(all)
}

fn answer(response: &ListHostsResponse) -> Answer {
    let (start, end) = when::ends(response.range.as_ref());
    Answer {
        head: vec![("start", start.into()), ("end", end.into())],
        rows_name: "hosts",
        rows: response.hosts.iter().map(records::host).collect(),
        blank: records::host(&Host::default()),
    }
}

fn page(response: &ListHostsResponse, all: usize, now: Timestamp, width: usize) -> Page {
    let mut table = Table::new(vec![
        Column::text("HOST", 40),
        Column::number("SEEN").spare(1),
        Column::number("CPUS").spare(6),
        Column::number("CPU%"),
        Column::number("MEM-USED").spare(2),
        Column::number("MEM").spare(5),
        Column::number("PROCS").spare(4),
        Column::number("THR").spare(8),
        Column::number("COVERAGE"),
        Column::number("AGENT-CPU%").spare(7),
        Column::number("AGENT-RSS").spare(8),
        Column::text("KERNEL", 40).spare(9),
    ]);
    let mut notes = Vec::new();
    for host in &response.hosts {
        table.push(cells(host, now));
        let name = text::safe(&host.host);
        if host.agents > 1 {
            notes.push(format!(
                "{name}: {} agents send under this name; give each its own",
                host.agents
            ));
        }
        let lost = heading::lost(host.coverage.as_ref());
        if !lost.is_empty() {
            notes.push(format!("{name}: {}", lost.join("; ")));
        }
    }
    let shown = response.hosts.len();
    if shown < all {
        notes.push(format!("the first {shown} of {all}: more with --limit"));
    }
    if response.hosts.is_empty() {
        notes.push("no host sent anything in this time".to_owned());
    }
    let parts = [
        "hosts".to_owned(),
        heading::range_with_length(response.range.as_ref()),
        count(response),
    ];
    Page {
        heading: heading::about(&parts, None, width),
        table: Some(table),
        notes,
        ..Page::default()
    }
}

fn count(response: &ListHostsResponse) -> String {
    heading::name_hosts(&heading::host_names(&response.hosts, []))
}

fn cells(host: &Host, now: Timestamp) -> Vec<String> {
    let dash = || "-".to_owned();
    let seen = from_wire(host.last_seen.as_ref());
    let used = host
        .memory_available_bytes
        .and_then(|free| host.memory_total_bytes.checked_sub(free));
    vec![
        text::safe(&host.host),
        seen.map_or_else(dash, |seen| {
            format!("{} ago", units::duration(when::between_ns(seen, now)))
        }),
        host.cpus.to_string(),
        units::percent(host.cpu_percent),
        used.map_or_else(dash, units::bytes),
        units::bytes(host.memory_total_bytes),
        host.processes.to_string(),
        host.threads.to_string(),
        host.coverage.as_ref().map_or_else(dash, heading::share),
        units::percent(host.agent_cpu_percent),
        units::bytes(host.agent_rss_bytes),
        text::safe(&format!("{} {}", host.kernel_release, host.architecture)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_under_one_name_and_hosts_that_are_not_shown_are_pointed_out() {
        let host = Host {
            host: "vm".to_owned(),
            agents: 2,
            cpus: 2,
            ..Host::default()
        };
        let response = ListHostsResponse {
            range: None,
            hosts: vec![host],
        };
        let page = page(&response, 3, "2026-01-31T12:00:00Z".parse().unwrap(), 120);
        assert_eq!(
            page.notes,
            [
                "vm: 2 agents send under this name; give each its own",
                "the first 1 of 3: more with --limit"
            ]
        );
    }
}
