//! One process over time, on the whole screen.

use procscope_proto::v1::TopProcess;
use procscope_startup::format_duration;
use ratatui::{Frame, layout::Rect, text::Line};

use crate::{
    chart, heading, text,
    top::{state::State, theme::Theme, trend::Trend},
    when,
};

/// Draws who it is, and below that the curves.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    let Some(trend) = &state.trend else { return };
    let width = usize::from(area.width);
    let who = who(&trend.row);
    let mut lines = vec![Line::styled(text::fit(&who, width), theme.bold)];
    if area.height > 12
        && let Some(command) = trend.row.cmdline.as_ref().or(trend.row.exe.as_ref())
    {
        lines.push(Line::styled(text::fit(&text::safe(command), width), theme.dim));
    }
    lines.extend(time(state, trend, width, theme));
    let used = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(area.height);
    super::put(frame, area, lines);
    let below = Rect {
        y: area.y + used,
        height: area.height - used,
        ..area
    };
    if let Some(answer) = &trend.answer {
        chart::draw(frame.buffer_mut(), below, answer, &theme.look());
    }
}

/// `postgres, process 4711 on db-1, since 2026-01-31 11:00:00 UTC, child of 1, container 0123456789ab, pod
/// 5cf2a1b8-7d3e-4f60-9a1b-0c2d3e4f5a6b`.
fn who(p: &TopProcess) -> String {
    let mut parts = vec![text::safe(&p.name)];
    let host = p
        .hosts
        .first()
        .map_or_else(String::new, |host| format!(" on {}", text::safe(host)));
    parts.push(match p.pid {
        Some(pid) => format!("process {pid}{host}"),
        None => format!("all of this name{host}"),
    });
    if let Some(start) = when::from_wire(p.start_time.as_ref()) {
        parts.push(format!("since {} UTC", when::show(Some(start), false)));
    }
    if let Some(parent) = p.parent_pid {
        parts.push(format!("child of {parent}"));
    }
    if let Some(container) = p.container_id.as_ref().filter(|id| !id.is_empty()) {
        parts.push(format!("container {}", text::fit(&text::safe(container), 13)));
    }
    if let Some(pod) = p.pod_uid.as_ref().filter(|uid| !uid.is_empty()) {
        parts.push(format!("pod {}", text::safe(pod)));
    }
    if p.exited == Some(true) {
        parts.push("ended".to_owned());
    }
    parts.join(", ")
}

/// Which time it is, and what is not right with it.
fn time(state: &State, trend: &Trend, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let span = format_duration(trend.wanted.span);
    let mut about = match trend.wanted.until {
        None => format!("the last {span}"),
        Some(until) => format!("{span} up to {} UTC", when::show(Some(until), false)),
    };
    match &trend.answer {
        Some(answer) => {
            let step = format_duration(std::time::Duration::from_millis(answer.step_ms));
            about = format!("{about}, in steps of {step}");
            let all = [about, heading::coverage_words(answer.coverage.as_ref())];
            lines.extend(heading::about(&all, None, width).into_iter().map(Line::raw));
            if answer.points.iter().all(|point| point.gap) {
                lines.push(Line::styled("nothing is known of this time", theme.warn));
            }
        }
        None if trend.failure.is_none() => {
            lines.push(Line::styled(
                text::fit(&format!("{about}: asking {}", state.server), width),
                theme.dim,
            ));
        }
        None => lines.push(Line::raw(text::fit(&about, width))),
    }
    if let Some(why) = &trend.failure {
        lines.extend(
            super::head::wrap(why, width)
                .into_iter()
                .map(|line| Line::styled(line, theme.warn)),
        );
    }
    lines
}
