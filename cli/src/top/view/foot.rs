//! The last line: what the keys do here.

use ratatui::text::{Line, Span};

use crate::{
    text,
    top::{
        state::{Mode, State},
        theme::Theme,
    },
};

/// Keys and what they do, the most needed first: what finds no room is left out.
const TABLE: [(&str, &str); 11] = [
    ("?", "Help"),
    ("q", "Quit"),
    ("Enter", "History"),
    ("/", "Filter"),
    ("t", "Tree"),
    ("F6", "Sort"),
    ("g", "Group"),
    ("←→", "Time"),
    ("+-", "Width"),
    ("space", "Pause"),
    ("H", "Host"),
];
const PAST: [(&str, &str); 7] = [
    ("n", "Now"),
    ("←→", "Time"),
    ("[]", "x10"),
    ("+-", "Width"),
    ("Enter", "History"),
    ("?", "Help"),
    ("q", "Quit"),
];
const CHART: [(&str, &str); 4] = [("Esc", "Back"), ("+-", "Length"), ("←→", "Time"), ("n", "Now")];
const MENU: [(&str, &str); 3] = [("Enter", "Take"), ("Esc", "Leave"), ("↑↓", "Choose")];

/// The last line of the screen.
pub(super) fn line(state: &State, width: u16, theme: &Theme) -> Line<'static> {
    let width = usize::from(width);
    if let Some(note) = state.note {
        return Line::styled(text::fit(note, width), theme.warn);
    }
    match &state.mode {
        Mode::Filter { .. } => {
            let hint = "  Enter keeps it, Esc drops it";
            let label = "name contains: ";
            let room = width.saturating_sub(label.len() + 1);
            // The end is where it is being written.
            let written = text::fit_end(&text::safe(&state.query.filter), room);
            Line::from(vec![
                Span::raw(format!("{label}{written}")),
                Span::styled(" ", theme.selected),
                Span::styled(hint, theme.dim),
            ])
        }
        Mode::Help => Line::styled("any key goes back", theme.dim),
        Mode::Menu { .. } => keys(&MENU, width, theme),
        Mode::Chart => keys(&CHART, width, theme),
        Mode::Table if state.query.past.is_some() => keys(&PAST, width, theme),
        Mode::Table => keys(&TABLE, width, theme),
    }
}

fn keys(keys: &[(&'static str, &'static str)], width: usize, theme: &Theme) -> Line<'static> {
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, word) in keys {
        let wide = text::width(key) + text::width(word) + 3;
        if used + wide > width + 1 {
            break;
        }
        used += wide;
        spans.push(Span::styled(*key, theme.key));
        spans.push(Span::raw(" "));
        spans.push(Span::styled(*word, theme.key_word));
        spans.push(Span::raw("  "));
    }
    Line::from(spans)
}
