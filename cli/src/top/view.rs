//! The screen of the live top, drawn from the state alone. Pure.

mod chart;
mod foot;
mod head;
mod help;

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Clear,
};

use super::{
    ask::Order,
    columns::{self, Shape},
    state::{Menu, Mode, State},
    theme::Theme,
    tree::Row,
};
use crate::{
    args::{By, Sort},
    table::Place,
    text,
    users::Users,
};

/// Columns and lines around what a menu lists.
const BORDER: u16 = 2;

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, users: &Users, theme: &Theme) {
    let area = frame.area();
    let Some(foot_area) = area.rows().next_back() else {
        return;
    };
    let above = Rect {
        height: area.height.saturating_sub(1),
        ..area
    };
    match &state.mode {
        Mode::Help => put(frame, above, help::lines(above, theme)),
        Mode::Chart => chart::draw(frame, above, state, theme),
        Mode::Table | Mode::Filter { .. } | Mode::Menu { .. } => {
            let mut lines = head::lines(state, area, theme);
            let page = page_of(lines.len(), area.height);
            lines.extend(body(state, users, theme, usize::from(area.width), page));
            put(frame, above, lines);
        }
    }
    if let Mode::Menu { menu, at } = state.mode {
        draw_menu(frame, above, state, menu, at, theme);
    }
    frame.render_widget(foot::line(state, foot_area.width, theme), foot_area);
}

fn put(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// How many rows of the table are on a screen of this size.
pub(super) fn page(state: &State, area: Rect) -> usize {
    page_of(head::lines(state, area, &Theme::plain()).len(), area.height)
}

/// Titles and foot take a line each.
fn page_of(head: usize, height: u16) -> usize {
    usize::from(height).saturating_sub(head + 2)
}

fn body(state: &State, users: &Users, theme: &Theme, width: usize, page: usize) -> Vec<Line<'static>> {
    let Some(seen) = &state.seen else {
        return Vec::new();
    };
    let rows = state.rows();
    let mut shape = Shape::new(
        seen.query.by,
        state.query.order.sort(),
        seen.top.range.as_ref(),
        seen.top.coverage.as_ref(),
        &seen.top.processes,
    );
    shape.tree = rows.iter().any(|row| !row.branch.is_empty());
    let all = rows.iter().map(|row| (row.process, row.branch.as_str()));
    let table = columns::branched(shape, all, users).lines(width);
    let sorted = sorted_title(state.query.order, shape);
    let mut lines = vec![titles(&pad(&table.titles, width), &table.places, sorted, theme)];
    let (first, cursor) = (state.first_row(&rows, page), state.cursor(&rows));
    for (index, (row, line)) in rows.iter().zip(table.rows).enumerate().skip(first).take(page) {
        lines.push(if index == cursor {
            Line::styled(pad(&line, width), theme.selected)
        } else if columns::ended(row.process) {
            Line::styled(line, theme.dim)
        } else {
            styled(&line, &table.places, row, shape, sorted, theme)
        });
    }
    lines
}

/// The column that the rows are ordered by.
fn sorted_title(order: Order, shape: Shape) -> &'static str {
    match order {
        Order::Pid => "PID",
        Order::Time if shape.by == By::Process => "CPU-TIME",
        Order::Time => "CPU-USED",
        Order::By(Sort::Cpu) => "CPU%",
        Order::By(Sort::Memory) => "MEM-AVG",
        Order::By(Sort::Peak) => "PEAK",
        Order::By(Sort::Runqueue) => "WAIT%",
        Order::By(Sort::Io) => "DISK",
        Order::By(Sort::Faults) => "FAULTS",
        Order::By(Sort::Switches) => "SWITCHES",
    }
}

fn titles(line: &str, places: &[Place], sorted: &str, theme: &Theme) -> Line<'static> {
    let mut spans = Vec::new();
    let mut rest = line;
    if let Some(place) = places.iter().find(|place| place.title == sorted) {
        let (before, at) = text::split(rest, place.start);
        let (title, after) = text::split(at, place.width);
        spans.push(Span::styled(before.to_owned(), theme.titles));
        spans.push(Span::styled(title.to_owned(), theme.sorted_title));
        rest = after;
    }
    spans.push(Span::styled(rest.to_owned(), theme.titles));
    Line::from(spans)
}

/// A row with each cell in its colour.
fn styled(
    line: &str,
    places: &[Place],
    row: &Row<'_>,
    shape: Shape,
    sorted: &str,
    theme: &Theme,
) -> Line<'static> {
    let mut spans = Vec::with_capacity(places.len() + 1);
    let mut rest = line;
    let mut at = 0;
    for place in places {
        let (gap, cell) = text::split(rest, place.start - at);
        let (cell, after) = text::split(cell, place.width);
        let mut style = cell_style(place.title, row, shape, theme);
        if place.title == sorted {
            style = style.add_modifier(Modifier::BOLD);
        }
        spans.push(Span::raw(gap.to_owned()));
        // Branches are no part of the name.
        let branch = if place.title == "NAME" { &*row.branch } else { "" };
        match cell.strip_prefix(branch) {
            Some(name) if !branch.is_empty() => {
                spans.push(Span::styled(branch.to_owned(), theme.dim));
                spans.push(Span::styled(name.to_owned(), style));
            }
            _ => spans.push(Span::styled(cell.to_owned(), style)),
        }
        rest = after;
        at = place.start + place.width;
    }
    Line::from(spans)
}

fn cell_style(title: &str, row: &Row<'_>, shape: Shape, theme: &Theme) -> Style {
    let p = row.process;
    match title {
        "CPU%" => theme.heat(p.avg_cpu_percent),
        "WAIT%" => shape
            .wait_percent(p)
            .map_or(theme.dim, |percent| theme.heat(percent)),
        "USER" if shape.by == By::Process => theme.user,
        "HOST" if shape.by != By::Host => theme.user,
        "NAME" if p.kernel_thread == Some(true) => theme.kernel_thread,
        "NAME" | "CONTAINER" | "POD" | "USER" | "HOST" => theme.name,
        _ => Style::new(),
    }
}

fn draw_menu(frame: &mut Frame<'_>, area: Rect, state: &State, menu: Menu, at: usize, theme: &Theme) {
    let (choices, now) = state.choices(menu);
    let title = match menu {
        Menu::Order => "sort by",
        Menu::Host => "show",
    };
    let widest = choices
        .iter()
        .map(|choice| text::width(choice))
        .max()
        .unwrap_or(0);
    let wide = u16::try_from(widest.max(text::width(title)) + 4).unwrap_or(u16::MAX);
    let high = u16::try_from(choices.len()).unwrap_or(u16::MAX);
    let area = Rect {
        width: wide.min(area.width),
        height: high
            .saturating_add(1)
            .min(area.height.saturating_sub(BORDER))
            .max(2)
            .min(area.height),
        ..area
    };
    let Some(list) = area.height.checked_sub(1).map(usize::from) else {
        return;
    };
    frame.render_widget(Clear, area);
    let width = usize::from(area.width);
    let mut lines = vec![Line::styled(pad(&format!(" {title}"), width), theme.titles)];
    let first = (at + 1).saturating_sub(list);
    for (index, choice) in choices.iter().enumerate().skip(first).take(list) {
        let mark = if index == now { '•' } else { ' ' };
        let line = pad(&format!(" {mark} {choice}"), width);
        lines.push(Line::styled(
            line,
            if index == at { theme.selected } else { Style::new() },
        ));
    }
    put(frame, area, lines);
}

/// The text with blanks up to a width, cut where it is wider.
fn pad(label: &str, width: usize) -> String {
    let label = text::fit(label, width);
    let blanks = " ".repeat(width - text::width(&label).min(width));
    label + &blanks
}

#[cfg(test)]
mod tests;
