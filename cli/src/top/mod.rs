//! `top`: what uses most, printed once or live.

mod ask;
mod columns;
mod feed;
mod live;
mod state;
mod theme;
mod tree;
mod trend;
mod view;

use std::io::{self, IsTerminal as _};

use procscope_proto::v1::{Coverage, Host, ListTopProcessesRequest, ListTopProcessesResponse, TopProcess};
use procscope_startup::Result;

pub(crate) use self::live::live;
use crate::{
    args::{self, By, Sort, Top},
    client::Client,
    clock,
    config::{Format, Settings},
    data::Answer,
    heading,
    output::{self, Page},
    records,
    table::Table,
    text,
    users::Users,
};

/// The collector gives at most so many rows.
const LIMIT_MAX: u32 = 1000;

/// Whether this is the live view: a table, of now, on a terminal.
pub(crate) fn is_live(top: &Top, settings: &Settings) -> bool {
    let printed = top.once || top.intervals.is_some() || settings.range.is_some();
    !printed && settings.format == Format::Table && io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Prints one answer.
pub(crate) async fn once(top: &Top, settings: &Settings) -> Result<()> {
    let request = ListTopProcessesRequest {
        hosts: settings.hosts.clone(),
        metric: top.sort.wire().into(),
        limit: settings.limit_up_to(LIMIT_MAX, args::TOP_LIMIT)?,
        group_by: top.by.wire().into(),
        range: settings.range,
        last_intervals: if settings.range.is_some() {
            0
        } else {
            top.intervals.unwrap_or(args::INTERVALS)
        },
        name_contains: top.filter.clone(),
    };
    let mut client = Client::connect(settings).await?;
    let response = client.top(request).await?;
    let hosts = client.hosts_within(response.range).await;
    output::print(
        settings.format,
        || answer(&response),
        |width| {
            let mut page = page(top, &response, &hosts, width);
            if settings.range.is_none() {
                let stale = heading::stale(response.range.as_ref(), &hosts, clock::now());
                page.heading.extend(stale.map(|line| text::fit(&line, width)));
            }
            page
        },
    )
}

fn answer(response: &ListTopProcessesResponse) -> Answer {
    let mut head = vec![
        ("metric", records::metric(response.metric())),
        ("group_by", records::group_by(response.group_by())),
    ];
    head.extend(records::head(response.range.as_ref(), response.coverage.as_ref()));
    Answer {
        head,
        rows_name: "processes",
        rows: response.processes.iter().map(records::top_process).collect(),
        blank: records::top_process(&TopProcess::default()),
    }
}

fn page(top: &Top, response: &ListTopProcessesResponse, hosts: &[Host], width: usize) -> Page {
    let rows = &response.processes;
    let (range, coverage) = (response.range.as_ref(), response.coverage.as_ref());
    let hosts = heading::Hosts::seen(hosts, rows.iter().flat_map(|row| &row.hosts));
    let about = format!("top by {} per {}", top.sort.word(), top.by.word());
    let mut notes = Vec::new();
    if rows.is_empty() {
        notes.push(nothing(&top.filter, coverage));
    }
    if rows.iter().any(columns::ended) {
        notes.push(format!("{} ended within this time", columns::ENDED));
    }
    let shape = columns::Shape::new(top.by, top.sort, range, coverage, rows);
    Page {
        heading: heading::lines(&about, range, &hosts, coverage, width),
        table: Some(columns::table(shape, rows, &Users::of_this_machine())),
        notes,
        ..Page::default()
    }
}

/// Why there is no row.
fn nothing(filter: &str, coverage: Option<&Coverage>) -> String {
    let seen = coverage.is_some_and(|coverage| coverage.observed_host_seconds > 0.0);
    match (seen, filter) {
        (false, _) => "no agent sent anything of this time: is one running? see `procscope hosts`".to_owned(),
        (true, "") => "nothing that was asked for ran in this time".to_owned(),
        (true, filter) => format!(
            "nothing with \"{}\" in its name ran in this time",
            text::safe(filter)
        ),
    }
}

/// The members of a group, or other rows of the wire, as the table of a printed top.
pub(crate) fn table(by: By, response: &ListTopProcessesResponse) -> Table {
    let rows = &response.processes;
    let shape = columns::Shape::new(
        by,
        Sort::Cpu,
        response.range.as_ref(),
        response.coverage.as_ref(),
        rows,
    );
    columns::table(shape, rows, &Users::of_this_machine())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_says_why() {
        let coverage = |observed_host_seconds| Coverage {
            observed_host_seconds,
            ..Coverage::default()
        };
        let check = |filter, seconds, part: &str| {
            let note = nothing(filter, Some(&coverage(seconds)));
            assert!(note.contains(part), "{note}");
        };
        check("", 0.0, "is one running?");
        check("x", 0.0, "is one running?");
        check("x\x1b", 5.0, "nothing with \"x\\x1b\" in its name");
        check("", 5.0, "asked for");
    }
}
