//! What stands above the table: which time, how busy each host is, and how things stand.

use std::time::Duration;

use procscope_proto::v1::{AuditRow, Host};
use ratatui::{
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::pad;
use crate::{
    args::By,
    audit, heading, text,
    top::{
        columns,
        state::{Link, Seen, State},
        theme::Theme,
    },
    units, when,
};

/// An agent sends each second by default; a silence of this length is worth a word.
const QUIET_WORTH_A_WORD: Duration = Duration::from_secs(5);
/// In percent of all CPUs: a residual from here on is no matter of rounding.
const RESIDUAL_WORTH_A_WORD: f64 = 1.0;
/// Columns of the longest bar: a longer one tells nothing more.
const BAR_WIDTH_MAX: usize = 40;
const BAR_WIDTH_MIN: usize = 8;
/// Columns that a host's name takes before its bars.
const LABEL_WIDTH_MAX: usize = 16;
/// More hosts than these share the last line, however high the screen is.
const HOSTS_MAX: usize = 12;
/// On a lower screen the table needs the room.
const ROOMY_HEIGHT: u16 = 16;
/// Why something fails may be long; the table needs room too.
const STATUS_LINES_MAX: usize = 4;

/// All lines above the titles of the table.
pub(super) fn lines(state: &State, area: Rect, theme: &Theme) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let mut lines = Vec::new();
    if let Some(seen) = &state.seen {
        lines.extend(about(seen, area, theme));
        lines.extend(bars(seen, area, theme));
    } else {
        lines.push(Line::styled("procscope top", theme.bold));
    }
    lines.extend(status(state, width, theme));
    // Titles, foot and a few rows.
    lines.truncate(usize::from(area.height).saturating_sub(5).max(1));
    lines
}

fn about(seen: &Seen, area: Rect, theme: &Theme) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let (range, coverage) = (seen.top.range.as_ref(), seen.top.coverage.as_ref());
    let lost = heading::lost_lines(coverage, width);
    if area.height < ROOMY_HEIGHT {
        let parts = [
            heading::range_with_length(range),
            heading::coverage_words(coverage),
        ];
        let when = heading::about(&parts, None, width).into_iter().take(1);
        let lines = when.map(|line| Line::styled(line, theme.bold));
        return lines
            .chain(
                lost.into_iter()
                    .take(1)
                    .map(|line| Line::styled(line, theme.warn)),
            )
            .collect();
    }
    let hosts = seen_hosts(seen);
    let all = heading::lines("procscope top", range, &hosts, coverage, width);
    let first_lost = all.len() - lost.len();
    let style = |index| {
        if index >= first_lost {
            theme.warn
        } else {
            theme.bold
        }
    };
    all.into_iter()
        .enumerate()
        .map(|(index, line)| Line::styled(line, style(index)))
        .collect()
}

fn seen_hosts(seen: &Seen) -> heading::Hosts {
    match &seen.audit {
        Some(audit) if !audit.rows.is_empty() => {
            let names = audit.rows.iter().map(|row| &row.host);
            heading::Hosts::all(heading::host_names(&[], names))
        }
        _ => heading::Hosts::some(columns::hosts(seen.top.processes.iter())),
    }
}

/// What a host's bars are made of.
struct Machine<'a> {
    name: String,
    audit: &'a AuditRow,
    /// Used and total, in bytes.
    memory: Option<(u64, u64)>,
}

/// One or two bars a host; what finds no room shares a line.
fn bars(seen: &Seen, area: Rect, theme: &Theme) -> Vec<Line<'static>> {
    let Some(audit) = &seen.audit else {
        let why = if seen.busy {
            "CPU  the audit is not known: the collector is busy"
        } else {
            "CPU  the audit is not known"
        };
        return vec![Line::styled(why, theme.dim)];
    };
    let hosts = seen.hosts.as_deref().unwrap_or_default();
    let width = usize::from(area.width);
    if let [row] = audit.rows.as_slice() {
        let host = hosts.iter().find(|host| host.host == row.host);
        let mut lines = vec![cpu_line(row, width, theme)];
        lines.extend(
            host.filter(|_| area.height >= ROOMY_HEIGHT)
                .and_then(|host| memory_line(host, width, theme)),
        );
        return lines;
    }
    let mut machines: Vec<Machine<'_>> = audit
        .rows
        .iter()
        .map(|row| Machine {
            name: text::safe(&row.host),
            audit: row,
            memory: hosts.iter().find(|host| host.host == row.host).and_then(memory),
        })
        .collect();
    let room = (usize::from(area.height) / 3).saturating_sub(4).min(HOSTS_MAX);
    let total = sum(&audit.rows);
    if area.height < ROOMY_HEIGHT || room < 2 {
        return if machines.is_empty() {
            Vec::new()
        } else {
            vec![cpu_line(&total, width, theme)]
        };
    }
    let left = if machines.len() > room {
        machines.sort_by(|a, b| busy(b.audit).total_cmp(&busy(a.audit)));
        machines.split_off(room - 1)
    } else {
        Vec::new()
    };
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    let rest: Vec<AuditRow> = left.iter().map(|machine| machine.audit.clone()).collect();
    let rest_total = sum(&rest);
    if !left.is_empty() {
        machines.push(Machine {
            name: format!("{} more", left.len()),
            audit: &rest_total,
            memory: left
                .iter()
                .filter_map(|machine| machine.memory)
                .reduce(|one, other| (one.0.saturating_add(other.0), one.1.saturating_add(other.1))),
        });
    }
    let label = machines
        .iter()
        .map(|machine| text::width(&machine.name))
        .max()
        .unwrap_or(0)
        .min(LABEL_WIDTH_MAX);
    machines
        .iter()
        .map(|machine| pair(machine, label, width, theme))
        .collect()
}

fn sum(rows: &[AuditRow]) -> AuditRow {
    let add = |one: Option<u64>, other: Option<u64>| columns::sum(one, other);
    rows.iter().fold(AuditRow::default(), |total, row| AuditRow {
        cpus: total.cpus.saturating_add(row.cpus),
        wall_ns: total.wall_ns.saturating_add(row.wall_ns),
        process_ns: total.process_ns.saturating_add(row.process_ns),
        kthread_ns: total.kthread_ns.saturating_add(row.kthread_ns),
        idle_ns: total.idle_ns.saturating_add(row.idle_ns),
        iowait_ns: add(total.iowait_ns, row.iowait_ns),
        irq_ns: add(total.irq_ns, row.irq_ns),
        softirq_ns: add(total.softirq_ns, row.softirq_ns),
        steal_ns: add(total.steal_ns, row.steal_ns),
        residual_ns: total.residual_ns.saturating_add(row.residual_ns),
        ..total
    })
}

/// Used and total memory.
fn memory(host: &Host) -> Option<(u64, u64)> {
    let used = host
        .memory_total_bytes
        .checked_sub(host.memory_available_bytes?)?;
    (host.memory_total_bytes > 0).then_some((used, host.memory_total_bytes))
}

/// Shares of a host's CPUs in percent: processes, kernel threads, what was taken from both.
fn shares(row: &AuditRow) -> [f64; 3] {
    let percent = |ns| audit::percent_of(ns, row.wall_ns).unwrap_or(0.0);
    let taken = [row.irq_ns, row.softirq_ns, row.steal_ns]
        .into_iter()
        .fold(None, columns::sum);
    [
        percent(row.process_ns),
        percent(row.kthread_ns),
        taken.map_or(0.0, percent),
    ]
}

fn busy(row: &AuditRow) -> f64 {
    shares(row).iter().sum()
}

/// `CPU [████▒▒    ] processes 51.2 %  kernel 1.0 %  idle 47.8 %  of 2 CPUs`.
fn cpu_line(row: &AuditRow, width: usize, theme: &Theme) -> Line<'static> {
    let percent = |ns| audit::percent_of(ns, row.wall_ns).unwrap_or(0.0);
    let shares = shares(row);
    let mut words = vec![String::new()];
    let mut part = |name: &str, percent: f64| words.push(format!("{name} {} % ", units::percent(percent)));
    part("processes", shares[0]);
    part("kernel", shares[1]);
    if row.irq_ns.or(row.softirq_ns).or(row.steal_ns).is_some() {
        part(taken_words(row), shares[2]);
    }
    part(
        "idle",
        percent(row.idle_ns.saturating_add(row.iowait_ns.unwrap_or(0))),
    );
    let residual = percent(row.residual_ns.unsigned_abs());
    if residual >= RESIDUAL_WORTH_A_WORD {
        part(
            if row.residual_ns < 0 {
                "counted twice"
            } else {
                "unaccounted"
            },
            residual,
        );
    }
    words.push(format!("of {} CPUs", row.cpus));
    let words = words.join(" ");
    let cells = width
        .saturating_sub(text::width(&words) + 6)
        .clamp(BAR_WIDTH_MIN, BAR_WIDTH_MAX);
    let mut spans = vec![Span::raw("CPU ")];
    spans.extend(bar(&cpu_parts(shares, theme), cells, ""));
    spans.push(Span::raw(words));
    Line::from(spans)
}

/// `Mem [██████    ] 3.01 GiB used of 7.75 GiB  38.8 %  212 processes, 560 threads`.
fn memory_line(host: &Host, width: usize, theme: &Theme) -> Option<Line<'static>> {
    let (used, total) = memory(host)?;
    let percent = audit::percent_of(used, total)?;
    let words = format!(
        " {} used of {}  {} %  {} processes, {} threads",
        units::bytes(used),
        units::bytes(total),
        units::percent(percent),
        units::count(u64::from(host.processes)),
        units::count(u64::from(host.threads)),
    );
    let cells = width
        .saturating_sub(text::width(&words) + 6)
        .clamp(BAR_WIDTH_MIN, BAR_WIDTH_MAX);
    let mut spans = vec![Span::raw("Mem ")];
    spans.extend(bar(&[(percent, "█", theme.bar_memory)], cells, ""));
    spans.push(Span::raw(words));
    Some(Line::from(spans))
}

/// `web-1  CPU [████▒     45.1 %]  Mem [██████   3.01 GiB/7.75 GiB]`.
fn pair(machine: &Machine<'_>, label: usize, width: usize, theme: &Theme) -> Line<'static> {
    let name = pad(&machine.name, label);
    let beside = label + "  CPU []  Mem []".len();
    let both = width.saturating_sub(beside);
    let cells = if machine.memory.is_some() {
        both / 2
    } else {
        both + "  Mem []".len()
    }
    .clamp(BAR_WIDTH_MIN, BAR_WIDTH_MAX);
    let used = format!(
        "{} % of {}",
        units::percent(busy(machine.audit)),
        machine.audit.cpus
    );
    let mut spans = vec![Span::styled(name, theme.name), Span::raw("  CPU ")];
    spans.extend(bar(&cpu_parts(shares(machine.audit), theme), cells, &used));
    if let Some((used, total)) = machine.memory.filter(|_| both / 2 >= BAR_WIDTH_MIN) {
        let percent = audit::percent_of(used, total).unwrap_or(0.0);
        let words = format!("{}/{}", units::bytes(used), units::bytes(total));
        spans.push(Span::raw("  Mem "));
        spans.extend(bar(&[(percent, "█", theme.bar_memory)], cells, &words));
    }
    Line::from(spans)
}

type Part = (f64, &'static str, Style);

fn cpu_parts(shares: [f64; 3], theme: &Theme) -> [Part; 3] {
    [
        (shares[0], "█", theme.bar_processes),
        (shares[1], "▓", theme.bar_kernel),
        (shares[2], "▒", theme.bar_taken),
    ]
}

/// A bar in brackets, of parts in percent; words stand in its right end where the room is.
fn bar(parts: &[Part], cells: usize, words: &str) -> Vec<Span<'static>> {
    let count = |cells: usize| u32::try_from(cells).map_or(0.0, f64::from);
    // Words take what is left at the right, over what a full bar would fill.
    let words = text::fit(words, cells.saturating_sub(1));
    let room = cells - text::width(&words);
    let mut spans = vec![Span::raw("[")];
    let (mut from, mut drawn) = (0.0, 0);
    for (percent, mark, style) in parts {
        let to = from + percent;
        let inside = |cell: &usize| {
            let middle = (count(*cell) + 0.5) * 100.0 / count(cells);
            middle >= from && middle < to
        };
        let length = (0..room).filter(inside).count();
        drawn += length;
        spans.push(Span::styled(mark.repeat(length), *style));
        from = to;
    }
    spans.push(Span::raw(" ".repeat(room.saturating_sub(drawn))));
    spans.push(Span::raw(words));
    spans.push(Span::raw("]"));
    spans
}

/// What this kernel tells apart from the time of tasks.
fn taken_words(row: &AuditRow) -> &'static str {
    match (columns::sum(row.irq_ns, row.softirq_ns), row.steal_ns) {
        (Some(_), Some(_)) => "interrupts, stolen",
        (Some(_), None) => "interrupts",
        (None, _) => "stolen",
    }
}

/// How things stand: what the table shows, or what we wait for.
fn status(state: &State, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let server = &state.server;
    let words = match (&state.link, &state.seen) {
        (Link::Away { why, retry_in }, seen) => {
            let again = match retry_in.as_secs() {
                0 => "trying again".to_owned(),
                seconds => format!("trying again in {seconds} s"),
            };
            let kept = if seen.is_some() {
                " (the last answer stays)"
            } else {
                ""
            };
            format!("{again}{kept}: {why}")
        }
        (Link::Connecting, None) => format!("connecting to {server}"),
        (Link::Connected, None) if state.busy => format!("connected to {server}, which is busy"),
        (Link::Connected, None) => {
            format!("connected to {server}; waits for the first complete interval of an agent")
        }
        (_, Some(seen)) => return vec![table_status(state, seen, width, theme)],
    };
    wrap(&words, width)
        .into_iter()
        .map(|line| Line::styled(line, theme.warn))
        .collect()
}

/// Words into at most `STATUS_LINES_MAX` lines.
pub(super) fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if lines_full(line, word, width) => lines.push(word.to_owned()),
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines.truncate(STATUS_LINES_MAX);
    lines.iter().map(|line| text::fit(line, width)).collect()
}

fn lines_full(line: &str, word: &str, width: usize) -> bool {
    text::width(line) + 1 + text::width(word) > width
}

fn table_status(state: &State, seen: &Seen, width: usize, theme: &Theme) -> Line<'static> {
    let rows = state.rows();
    let ended = rows.iter().filter(|row| columns::ended(row.process)).count();
    let what = match (seen.query.by, rows.len()) {
        (by, 1) => by.word().to_owned(),
        (By::Process, _) => "processes".to_owned(),
        (by, _) => format!("{}s", by.word()),
    };
    let mut parts = vec![format!(
        "{} {what}",
        units::count(u64::try_from(rows.len()).unwrap_or(u64::MAX))
    )];
    if seen.top.processes.len() >= state.limit {
        // The collector has more, but not of what matters in this order.
        parts[0].insert_str(0, "the first ");
    }
    if ended > 0 {
        parts.push(format!("{ended} ended {}", columns::ENDED));
    }
    let order = state.query.order.word();
    parts.push(if state.arranged.inverted {
        format!("by {order}, least first")
    } else {
        format!("by {order}")
    });
    if state.arranged.tree && seen.query.by == By::Process {
        parts.push("as a tree".to_owned());
    }
    if state.arranged.ended_first {
        parts.push("ended first".to_owned());
    }
    if !state.query.filter.is_empty() {
        parts.push(format!("named \"{}\"", text::safe(&state.query.filter)));
    }
    let line = parts.join(", ");
    let badge = |badge: String, line: &str| {
        let badge = text::fit(&badge, width);
        let room = width.saturating_sub(text::width(&badge));
        Line::from(vec![
            Span::styled(badge, theme.badge),
            Span::raw(text::fit(&format!(" {line}"), room)),
        ])
    };
    if state.is_waiting() {
        return Line::styled(text::fit(&format!("asking {}", state.server), width), theme.warn);
    }
    if state.paused {
        return badge(" PAUSED ".to_owned(), &line);
    }
    if let Some(back_ns) = state.back_ns() {
        return badge(format!(" {} AGO ", units::duration(back_ns)), &line);
    }
    if state.quiet_for >= QUIET_WORTH_A_WORD {
        let quiet = state.quiet_for.as_secs();
        let last = when::show(when::ends(seen.top.range.as_ref()).1, false);
        let why = if state.busy {
            "the collector is busy"
        } else {
            "is an agent sending?"
        };
        let line = format!("no new interval for {quiet} s, the last ended {last} UTC: {why}");
        return Line::styled(text::fit(&line, width), theme.warn);
    }
    Line::raw(text::fit(&line, width))
}
