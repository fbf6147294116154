//! `history`: one process, or all of one name on one host, over time.

use std::time::Duration;

use procscope_proto::v1::{
    GetProcessHistoryRequest, GetProcessHistoryResponse, HistoryPoint, ListHostsRequest, ListHostsResponse,
};
use procscope_startup::{Failure, Result, format_duration};

use crate::{
    args::History,
    chart,
    client::Client,
    config::Settings,
    data::Answer,
    heading,
    output::{self, Page},
    records,
    table::{Column, Table},
    text, units,
    when::{self, from_wire},
};

/// Columns of the bar that shows CPU at a glance.
const BAR_WIDTH: u32 = 24;
/// Lines of the chart below the table.
const CHART_HEIGHT: u16 = 24;
/// A message that names hosts names this many.
const HOSTS_NAMED_MAX: usize = 8;

/// Asks and prints.
pub(crate) async fn run(history: &History, settings: &Settings) -> Result<()> {
    if history.process_id.is_none() && settings.hosts.len() > 1 {
        return Err(Failure::usage(
            "a history is of one host: name it with one --host",
        ));
    }
    let mut client = Client::connect(settings).await?;
    let host = match (&history.process_id, settings.hosts.first()) {
        // The id says which host.
        (Some(_), _) => String::new(),
        (None, Some(host)) => host.clone(),
        (None, None) => only_host(
            &client
                .hosts(ListHostsRequest {
                    range: settings.range,
                })
                .await?,
        )?,
    };
    let request = GetProcessHistoryRequest {
        process_id: history.process_id.clone().unwrap_or_default(),
        host: host.clone(),
        name: history.name.clone().unwrap_or_default(),
        range: settings.range,
        step_ms: milliseconds(history.step),
    };
    let mut response = client.history(request).await?;
    // The newest points are the ones to keep.
    let older = response.points.len().saturating_sub(settings.rows_max());
    response.points.drain(..older);
    let subject = history
        .name
        .as_deref()
        .or(history.process_id.as_deref())
        .unwrap_or_default();
    output::print(
        settings.format,
        || answer(subject, &host, &response),
        |width| page(subject, &host, &response, width),
    )
}

/// The host that is meant when nobody names one.
fn only_host(response: &ListHostsResponse) -> Result<String> {
    match response.hosts.as_slice() {
        [host] => Ok(host.host.clone()),
        [] => Err(Failure::failed(
            "no host sent anything in this time; see `procscope hosts --since 7d`",
        )),
        hosts => {
            let mut names: Vec<String> = hosts
                .iter()
                .take(HOSTS_NAMED_MAX)
                .map(|host| text::safe(&host.host))
                .collect();
            if hosts.len() > HOSTS_NAMED_MAX {
                names.push("…".to_owned());
            }
            Err(Failure::usage(format_args!(
                "a name alone means one on each of {} hosts: name one of {} with --host",
                hosts.len(),
                names.join(", ")
            )))
        }
    }
}

/// At most the greatest number that the wire carries, which the collector refuses by name.
fn milliseconds(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    })
}

fn answer(subject: &str, host: &str, response: &GetProcessHistoryResponse) -> Answer {
    let mut head = records::head(response.range.as_ref(), response.coverage.as_ref());
    let by_id = host.is_empty();
    head.push(("process_id", Some(subject).filter(|_| by_id).into()));
    let process = response.process.as_ref();
    let (name, host) = if by_id {
        (process.map(|p| &*p.name), process.map(|p| &*p.host))
    } else {
        (Some(subject), Some(host))
    };
    head.push(("name", name.into()));
    head.push(("host", host.into()));
    head.push(("step_ms", response.step_ms.into()));
    head.extend(records::identity(process));
    Answer {
        head,
        rows_name: "points",
        rows: response.points.iter().map(records::history_point).collect(),
        blank: records::history_point(&HistoryPoint::default()),
    }
}

fn page(subject: &str, host: &str, response: &GetProcessHistoryResponse, width: usize) -> Page {
    let step = Duration::from_millis(response.step_ms);
    let about = format!(
        "history of {} in steps of {}",
        text::safe(subject),
        format_duration(step)
    );
    let range = response.range.as_ref();
    let heading = if host.is_empty() {
        let parts = [
            about,
            heading::range_with_length(range),
            heading::coverage_words(response.coverage.as_ref()),
        ];
        heading::about(&parts, response.coverage.as_ref(), width)
    } else {
        let host = heading::Hosts::some(vec![host.to_owned()]);
        heading::lines(&about, range, &host, response.coverage.as_ref(), width)
    };
    let mut notes = Vec::new();
    let mut known = response.points.iter().filter(|point| !point.gap).peekable();
    if known.peek().is_none() {
        notes.push("nothing is known of this time".to_owned());
    } else if known.all(|point| point.avg_num_procs == Some(0.0)) {
        notes.push("no such process ran in the time that was seen".to_owned());
    }
    let chart = if notes.is_empty() {
        chart::lines(response, width, CHART_HEIGHT)
    } else {
        Vec::new()
    };
    Page {
        heading,
        table: Some(table(response)),
        chart,
        notes,
    }
}

fn table(response: &GetProcessHistoryResponse) -> Table {
    let mut table = Table::new(vec![
        Column::text("TIME (UTC)", 24),
        Column::number("CPU%"),
        Column::number("CPU-USED").spare(4),
        Column::number("MEM-AVG").spare(1),
        Column::number("PEAK").spare(5),
        Column::number("PROCS").spare(6),
        Column::number("THR").spare(7),
        Column::number("WAIT%").spare(8),
        Column::text("CPU", usize::MAX).spare(9),
    ]);
    let most = response
        .points
        .iter()
        .filter_map(|point| point.avg_cpu_percent)
        .fold(0.0, f64::max);
    let fine = !response.step_ms.is_multiple_of(1_000);
    let mut points = response.points.iter().peekable();
    while let Some(point) = points.next() {
        let time = when::show(from_wire(point.time.as_ref()), fine);
        if !point.gap {
            table.push(cells(time, point, response.step_ms, most));
            continue;
        }
        // One line tells of a whole gap.
        let mut steps = 1_u64;
        while points.next_if(|next| next.gap).is_some() {
            steps += 1;
        }
        let mut row = vec!["-".to_owned(); 9];
        row[0] = time;
        row[8] = format!(
            "(gap: {} step{})",
            units::count(steps),
            if steps == 1 { "" } else { "s" }
        );
        table.push(row);
    }
    table
}

fn cells(time: String, point: &HistoryPoint, step_ms: u64, most: f64) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        time,
        point.avg_cpu_percent.map_or_else(dash, units::percent),
        point.cpu_seconds.map_or_else(dash, units::seconds),
        point.avg_memory_mb.map_or_else(dash, units::mebibytes),
        point.peak_memory_mb.map_or_else(dash, units::mebibytes),
        point.avg_num_procs.map_or_else(dash, units::mean),
        point.threads.map_or_else(dash, |threads| threads.to_string()),
        wait_percent(point, step_ms).map_or_else(dash, units::percent),
        point
            .avg_cpu_percent
            .map_or_else(String::new, |percent| bar(percent, most)),
    ]
}

/// Time ready to run without a CPU / observed time of the step x 100.
pub(crate) fn wait_percent(point: &HistoryPoint, step_ms: u64) -> Option<f64> {
    // The share of the step that was observed is what CPU% was divided by.
    let observed = match (point.cpu_seconds, point.avg_cpu_percent) {
        (Some(seconds), Some(percent)) if percent > 0.0 => seconds * 100.0 / percent,
        _ => Duration::from_millis(step_ms).as_secs_f64(),
    };
    let waited = point.runqueue_seconds?;
    (observed > 0.0).then(|| waited / observed * 100.0)
}

/// A bar whose full length is the most of all points.
fn bar(value: f64, most: f64) -> String {
    (1..=BAR_WIDTH)
        .take_while(|mark| most > 0.0 && value / most * f64::from(BAR_WIDTH) + 0.5 > f64::from(*mark))
        .map(|_| '█')
        .collect()
}

#[cfg(test)]
mod tests {
    use procscope_proto::v1::Host;

    use super::*;

    fn point(seconds: i64, cpu: Option<f64>) -> HistoryPoint {
        HistoryPoint {
            time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            gap: cpu.is_none(),
            avg_cpu_percent: cpu,
            cpu_seconds: cpu.map(|cpu| cpu / 10.0),
            ..HistoryPoint::default()
        }
    }

    #[test]
    fn a_gap_is_a_gap_and_nothing_is_not_a_gap() {
        let points = vec![
            point(0, Some(50.0)),
            point(10, None),
            point(20, None),
            point(30, Some(0.0)),
        ];
        let response = GetProcessHistoryResponse {
            points,
            step_ms: 10_000,
            ..Default::default()
        };
        let lines = table(&response).lines(120).rows;
        assert_eq!(lines.len(), 3);
        assert!(
            lines[0].starts_with("1970-01-01 00:00:00  50.0    5.00 s") && lines[0].ends_with('█'),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("1970-01-01 00:00:10     -") && lines[1].ends_with("(gap: 2 steps)"));
        assert!(
            lines[2].starts_with("1970-01-01 00:00:30   0.0         0"),
            "{lines:?}"
        );
    }

    #[test]
    fn bars_are_relative_to_the_most() {
        assert_eq!(bar(100.0, 100.0).chars().count(), 24);
        assert_eq!(bar(50.0, 100.0).chars().count(), 12);
        assert_eq!(bar(0.0, 0.0), "");
        assert_eq!(bar(f64::NAN, 100.0), "");
    }

    #[test]
    fn a_name_means_the_only_host_or_asks_which() {
        let host = |name: &str| Host {
            host: name.to_owned(),
            ..Host::default()
        };
        let check = |names: &[&str]| {
            only_host(&ListHostsResponse {
                range: None,
                hosts: names.iter().map(|name| host(name)).collect(),
            })
        };
        assert_eq!(check(&["a"]).unwrap(), "a");
        assert_eq!(check(&[]).unwrap_err().code(), 1);
        let which = check(&["a", "b\x1b"]).unwrap_err();
        assert!(
            which.code() == 2 && which.to_string().contains("a, b\\x1b"),
            "{which}"
        );
    }
}
