//! `exits`: every process that ended, newest first, short-lived ones too.

use std::time::Duration;

use procscope_proto::v1::{ExitedProcess, Host, ListProcessExitsRequest, ListProcessExitsResponse};
use procscope_startup::Result;

use crate::{
    args::Exits,
    client::Client,
    config::Settings,
    data::Answer,
    heading,
    output::{self, Page},
    records,
    table::{Column, Table},
    text, units,
    users::Users,
    when::{self, from_wire},
};

/// The collector gives at most so many.
const LIMIT_MAX: u32 = 100_000;
const LIMIT: u32 = 100;
/// Rows of one page: about three megabytes on the wire.
const PAGE_SIZE_MAX: u32 = 10_000;
/// Names of signals 1 to 31, as `kill -l` prints them, on all the machines that Linux runs on today.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Asks page by page and prints.
pub(crate) async fn run(exits: &Exits, settings: &Settings) -> Result<()> {
    let limit = settings.limit_up_to(LIMIT_MAX, LIMIT)?;
    let mut client = Client::connect(settings).await?;
    let mut request = ListProcessExitsRequest {
        hosts: settings.hosts.clone(),
        name: exits.name.clone().unwrap_or_default(),
        range: settings.range,
        max_lifetime_ns: nanoseconds(exits.max_lifetime),
        failed: exits.failed,
        page_size: limit.min(PAGE_SIZE_MAX),
        page_token: String::new(),
        process_id: exits.process_id.clone().unwrap_or_default(),
    };
    let mut all = client.exits(request.clone()).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    while !all.next_page_token.is_empty() && all.exits.len() < wanted {
        request.page_token.clone_from(&all.next_page_token);
        let page = client.exits(request.clone()).await?;
        if page.exits.is_empty() {
            break;
        }
        all.exits.extend(page.exits);
        all.next_page_token = page.next_page_token;
    }
    all.exits.truncate(wanted);
    let hosts = client.hosts_within(all.range).await;
    output::print(
        settings.format,
        || answer(&all),
        |width| page(exits, &all, &hosts, width),
    )
}

fn nanoseconds(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| {
        u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
    })
}

fn answer(response: &ListProcessExitsResponse) -> Answer {
    let mut head = records::head(response.range.as_ref(), response.coverage.as_ref());
    head.push(("total", response.total.into()));
    Answer {
        head,
        rows_name: "exits",
        rows: response.exits.iter().map(records::exited_process).collect(),
        blank: records::exited_process(&ExitedProcess::default()),
    }
}

fn page(exits: &Exits, response: &ListProcessExitsResponse, hosts: &[Host], width: usize) -> Page {
    let mut about = "exits".to_owned();
    if exits.failed {
        about.insert_str(0, "failed ");
    }
    if let Some(name) = &exits.name {
        about.push_str(" of ");
        about.push_str(&text::safe(name));
    }
    let hosts = heading::Hosts::seen(hosts, response.exits.iter().map(|exit| &exit.host));
    let shown = u64::try_from(response.exits.len()).unwrap_or(u64::MAX);
    let note = if shown == 0 {
        "nothing ended that was asked for".to_owned()
    } else if shown < response.total {
        let (shown, total) = (units::count(shown), units::count(response.total));
        format!("the newest {shown} of {total}: more with --limit")
    } else {
        format!("{} in all", units::count(shown))
    };
    Page {
        heading: heading::lines(
            &about,
            response.range.as_ref(),
            &hosts,
            response.coverage.as_ref(),
            width,
        ),
        table: Some(table(
            &response.exits,
            hosts.names.len() > 1,
            &Users::of_this_machine(),
        )),
        notes: vec![note],
        ..Page::default()
    }
}

fn table(exits: &[ExitedProcess], several_hosts: bool, users: &Users) -> Table {
    let mut columns = vec![
        Column::text("ENDED (UTC)", 24).spare(3),
        Column::number("PID"),
        Column::text("USER", 12).spare(5),
    ];
    if several_hosts {
        columns.push(Column::text("HOST", 20).spare(1));
    }
    columns.extend([
        Column::number("LIFETIME"),
        Column::number("CPU-TIME"),
        Column::number("PEAK").spare(4),
        Column::text("EXIT", 16),
        Column::text("NAME", 28),
        Column::path("PROGRAM").spare(9),
    ]);
    let mut table = Table::new(columns);
    for exit in exits {
        let mut cells = vec![
            when::show(from_wire(exit.end_time.as_ref()), true),
            exit.pid.to_string(),
            users.name(exit.uid, std::slice::from_ref(&exit.host)),
        ];
        if several_hosts {
            cells.push(text::safe(&exit.host));
        }
        cells.extend([
            units::duration(exit.lifetime_ns),
            units::duration(exit.cpu_time_ns),
            exit.peak_rss_bytes.map_or_else(|| "-".to_owned(), units::bytes),
            outcome(exit),
            text::safe(&exit.name),
            text::safe(&exit.exe),
        ]);
        table.push(cells);
    }
    table
}

/// `0`, `1`, `SIGKILL`, `SIGKILL OOM`; `-` when it is not known.
fn outcome(exit: &ExitedProcess) -> String {
    let oom = if exit.oom_killed == Some(true) { " OOM" } else { "" };
    match (exit.exit_signal, exit.exit_code) {
        (Some(signal), _) if signal > 0 => format!("{}{oom}", signal_name(signal)),
        (_, Some(code)) => format!("{code}{oom}"),
        _ => format!("-{oom}"),
    }
}

fn signal_name(signal: u32) -> String {
    let name = usize::try_from(signal)
        .ok()
        .and_then(|signal| SIGNALS.get(signal.checked_sub(1)?));
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(signal: Option<u32>, code: Option<u32>, oom: Option<bool>, shown: &str) {
        let exit = ExitedProcess {
            exit_signal: signal,
            exit_code: code,
            oom_killed: oom,
            ..Default::default()
        };
        assert_eq!(outcome(&exit), shown);
    }

    #[test]
    fn how_it_ended_is_said_in_words() {
        check(None, Some(0), None, "0");
        check(Some(0), Some(1), Some(false), "1");
        check(Some(9), None, None, "SIGKILL");
        check(Some(9), Some(0), Some(true), "SIGKILL OOM");
        check(Some(31), None, None, "SIGSYS");
        check(Some(34), None, None, "signal 34");
        check(None, None, None, "-");
    }
}
