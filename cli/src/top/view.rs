//! The screen of the live top, drawn from the state alone. Pure.

use std::time::Duration;

use procscope_proto::v1::AuditRow;
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use super::{
    columns::{self, Shape},
    state::{Link, Mode, Seen, State},
};
use crate::{args::By, audit, heading, text, units, users::Users, when};

/// More hosts share one bar.
const BARS_MAX: usize = 3;
/// An agent sends each second by default; a silence of this length is worth a word.
const QUIET_WORTH_A_WORD: Duration = Duration::from_secs(5);
/// In percent of all CPUs: a residual from here on is no matter of rounding.
const RESIDUAL_WORTH_A_WORD: f64 = 1.0;
/// Columns of the longest bar: a longer one tells nothing more.
const BAR_WIDTH_MAX: u16 = 40;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const WARN: Style = Style::new().fg(Color::Yellow);
const TITLES: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Why something fails may be long; the table needs room too.
const STATUS_LINES_MAX: usize = 4;

const KEYS: &str = "q quit  c/m/p/r sort  g group  / filter  e ended first  space pause  ? help";
const HELP: [&str; 16] = [
    "q, Ctrl-C      quit",
    "c              sort by CPU",
    "m              sort by memory, mean over the interval",
    "p              sort by peak memory",
    "r              sort by time spent waiting for a CPU",
    "d, f, s        sort by disk, by page faults, by context switches",
    "g              one row per process, or per command",
    "e              processes that ended (†) first",
    "/              filter by name; Enter keeps it, Esc drops it",
    "space          hold the screen; again to go on",
    "arrows, PgUp, PgDn, Home, End   scroll",
    "",
    "CPU%      100 is one CPU          CPU-TIME  over the whole life (CPU-USED: within the interval)",
    "RSS       resident memory now     PEAK      its greatest value within the interval",
    "THR       threads                 WAIT%     time ready to run without a CPU",
    "†         ended within the interval: it has no RSS any more, but all of its cost is here",
];

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, users: &Users) {
    let area = frame.area();
    let head = head(state, area);
    let foot = foot(state);
    let mut lines = head;
    if state.mode == Mode::Help {
        lines.extend(HELP.into_iter().map(Line::from));
    } else {
        let page = page_of(lines.len(), area.height);
        lines.extend(body(state, users, usize::from(area.width), page));
    }
    let height = usize::from(area.height);
    lines.truncate(height.saturating_sub(1));
    lines.resize(height.saturating_sub(1), Line::default());
    lines.push(foot);
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// How many rows of the table are on a screen of this size.
pub(super) fn page(state: &State, area: Rect) -> usize {
    page_of(head(state, area).len(), area.height)
}

/// Titles and foot take a line each.
fn page_of(head: usize, height: u16) -> usize {
    usize::from(height).saturating_sub(head + 2)
}

fn head(state: &State, area: Rect) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let mut lines = Vec::new();
    if let Some(seen) = &state.seen {
        let (range, coverage) = (seen.top.range.as_ref(), seen.top.coverage.as_ref());
        let hosts = seen_hosts(seen);
        let all = heading::lines("procscope top", range, &hosts, coverage, width);
        let lost = heading::lost_lines(coverage, width).len();
        let first_lost = all.len() - lost;
        lines.extend(all.into_iter().enumerate().map(|(index, line)| {
            Line::styled(
                line,
                if index >= first_lost {
                    WARN
                } else {
                    Style::new().add_modifier(Modifier::BOLD)
                },
            )
        }));
        lines.extend(bars(seen, area));
    } else {
        lines.push(Line::styled(
            "procscope top",
            Style::new().add_modifier(Modifier::BOLD),
        ));
    }
    lines.extend(status(state, width));
    lines
}

fn seen_hosts(seen: &Seen) -> Vec<String> {
    match &seen.audit {
        Some(audit) if !audit.rows.is_empty() => {
            heading::host_names(&[], audit.rows.iter().map(|row| &row.host))
        }
        _ => columns::hosts(&seen.top.processes),
    }
}

/// One bar a host, or one for all of them.
fn bars(seen: &Seen, area: Rect) -> Vec<Line<'static>> {
    let Some(audit) = &seen.audit else {
        return vec![Line::styled("CPU  the audit is not known", DIM)];
    };
    let roomy = area.height > 16;
    match audit.rows.as_slice() {
        [] => Vec::new(),
        rows if rows.len() > 1 && rows.len() <= BARS_MAX && roomy => {
            let label = rows
                .iter()
                .map(|row| text::width(&text::safe(&row.host)))
                .max()
                .unwrap_or(0)
                .min(20);
            rows.iter()
                .map(|row| bar(&pad(&text::safe(&row.host), label), row, area.width))
                .collect()
        }
        rows => vec![bar("CPU", &sum(rows), area.width)],
    }
}

fn pad(label: &str, width: usize) -> String {
    let label = text::fit(label, width);
    let blanks = " ".repeat(width - text::width(&label).min(width));
    label + &blanks
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

/// `vm [████▒▒    ] processes 51.2 %  kernel 1.0 %  idle 47.8 %  of 2 CPUs`.
fn bar(label: &str, row: &AuditRow, width: u16) -> Line<'static> {
    let percent = |ns| audit::percent_of(ns, row.wall_ns).unwrap_or(0.0);
    let other = [row.irq_ns, row.softirq_ns, row.steal_ns]
        .into_iter()
        .fold(None, columns::sum);
    let idle = row.idle_ns.saturating_add(row.iowait_ns.unwrap_or(0));
    let (process, kernel) = (percent(row.process_ns), percent(row.kthread_ns));
    let taken = other.map_or(0.0, percent);
    let mut words = vec![String::new()];
    let mut part = |name: &str, percent: f64| words.push(format!("{name} {} % ", units::percent(percent)));
    part("processes", process);
    part("kernel", kernel);
    if other.is_some() {
        part(taken_words(row), taken);
    }
    part("idle", percent(idle));
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
    let beside = u16::try_from(text::width(label) + text::width(&words) + 3).unwrap_or(u16::MAX);
    let cells = width.saturating_sub(beside).clamp(8, BAR_WIDTH_MAX);
    let fill = |from: f64, to: f64, mark: &str| -> String {
        let inside = |cell: &u16| {
            let middle = (f64::from(*cell) + 0.5) * 100.0 / f64::from(cells);
            middle >= from && middle < to
        };
        mark.repeat((0..cells).filter(inside).count())
    };
    let parts = [
        fill(0.0, process, "█"),
        fill(process, process + kernel, "▓"),
        fill(process + kernel, process + kernel + taken, "▒"),
    ];
    let drawn: usize = parts.iter().map(|part| part.chars().count()).sum();
    let [process, kernel, taken] = parts;
    Line::from(vec![
        Span::raw(format!("{label} [")),
        Span::styled(process, Style::new().fg(Color::Green)),
        Span::styled(kernel, Style::new().fg(Color::Red)),
        Span::styled(taken, Style::new().fg(Color::Magenta)),
        Span::raw(" ".repeat(usize::from(cells).saturating_sub(drawn))),
        Span::raw("]"),
        Span::raw(words),
    ])
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
fn status(state: &State, width: usize) -> Vec<Line<'static>> {
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
        (Link::Connected, None) => {
            format!("connected to {server}; waits for the first complete interval of an agent")
        }
        (_, Some(seen)) => return vec![table_status(state, seen, width)],
    };
    wrap(&words, width)
        .into_iter()
        .map(|line| Line::styled(line, WARN))
        .collect()
}

/// Words into at most `STATUS_LINES_MAX` lines.
fn wrap(words: &str, width: usize) -> Vec<String> {
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

fn table_status(state: &State, seen: &Seen, width: usize) -> Line<'static> {
    let rows = state.rows();
    let ended = rows.iter().filter(|row| columns::ended(row)).count();
    let what = match (seen.query.by, rows.len()) {
        (by, 1) => by.word().to_owned(),
        (By::Process, _) => "processes".to_owned(),
        (by, _) => format!("{}s", by.word()),
    };
    let mut parts = vec![format!("{} {what}", rows.len())];
    if seen.top.processes.len() >= state.limit {
        // The collector has more, but not of what matters in this order.
        parts[0].insert_str(0, "the first ");
    }
    if ended > 0 {
        parts.push(format!("{ended} ended {}", columns::ENDED));
    }
    parts.push(format!("by {}", state.query.sort.word()));
    if state.ended_first {
        parts.push("ended first".to_owned());
    }
    if !state.query.filter.is_empty() {
        parts.push(format!("named \"{}\"", text::safe(&state.query.filter)));
    }
    let line = parts.join(", ");
    if state.paused {
        return Line::styled(text::fit(&format!("PAUSED  {line}"), width), WARN);
    }
    if state.quiet_for >= QUIET_WORTH_A_WORD {
        let quiet = state.quiet_for.as_secs();
        let last = when::show(when::ends(seen.top.range.as_ref()).1, false);
        let line = format!("no new interval for {quiet} s, the last ended {last} UTC: is an agent sending?");
        return Line::styled(text::fit(&line, width), WARN);
    }
    Line::raw(text::fit(&line, width))
}

fn body(state: &State, users: &Users, width: usize, page: usize) -> Vec<Line<'static>> {
    let Some(seen) = &state.seen else {
        return Vec::new();
    };
    let rows = state.rows();
    let (range, coverage) = (seen.top.range.as_ref(), seen.top.coverage.as_ref());
    let shape = Shape::new(
        seen.query.by,
        state.query.sort,
        range,
        coverage,
        &seen.top.processes,
    );
    let table = columns::table(shape, rows.iter().copied(), users).lines(width);
    let titles = pad(&table.titles, width);
    let mut lines = vec![Line::styled(titles, TITLES)];
    let first = state.first_row(rows.len(), page);
    for (row, line) in rows.iter().zip(table.rows).skip(first).take(page) {
        lines.push(Line::styled(
            line,
            if columns::ended(row) { DIM } else { Style::new() },
        ));
    }
    lines
}

fn foot(state: &State) -> Line<'static> {
    match &state.mode {
        Mode::Filter { .. } => Line::from(vec![
            Span::raw(format!("name contains: {}", text::safe(&state.query.filter))),
            Span::styled(" ", TITLES),
            Span::styled("  Enter keeps it, Esc drops it", DIM),
        ]),
        Mode::Help => Line::styled("any key goes back", DIM),
        Mode::Table => Line::styled(KEYS, DIM),
    }
}

#[cfg(test)]
mod tests;
