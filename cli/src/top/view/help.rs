//! What the keys are, and what the columns mean.

use ratatui::{layout::Rect, text::Line};

use crate::{text, top::theme::Theme};

const HELP: [&str; 33] = [
    "q F10 Ctrl-C     quit",
    "up down k j      choose a row; PgUp, PgDn, Home, End",
    "Enter            its history as a chart; of a host: its processes",
    "",
    "P or c           sort by CPU",
    "M or m           sort by memory, mean of the time shown",
    "T                sort by CPU time over the whole life",
    "N                sort by PID",
    "p r d f s        sort by peak memory, wait for CPU, disk, faults, switches",
    "< >  F6          sort by the column beside; choose it from a list",
    "I                turn the order round",
    "",
    "t F5             tree, or flat",
    "g                a row per process, command, container, pod, user, host",
    "H                choose a host",
    "/ F4             filter by name; Enter keeps it, Esc drops it",
    "e                processes that ended (†) first",
    "",
    "left right       look back in time, and forward; [ and ] (or with Shift) ten times as far",
    "n Esc            back to now",
    "+ -              show more time at once, or less: 1, 10, 60, 600, 3600 intervals",
    "space z          hold the screen; again to go on",
    "? h F1           this page",
    "",
    "CPU%      100 is one CPU",
    "CPU-TIME  over the whole life; CPU-USED: within the time shown",
    "MEM-AVG   resident memory, mean of the time shown",
    "RSS PEAK  resident memory now; its greatest value within the time shown",
    "THR       threads",
    "WAIT%     time ready to run without a CPU; 100 is one thread that always waits",
    "†         ended within the time shown: it has no RSS any more, but all of its cost is here",
    "bars      processes █, kernel threads ▓, interrupts and what the machine's host took ▒",
    "[name]    a thread of the kernel",
];

/// As much of it as there is room for.
pub(super) fn lines(area: Rect, theme: &Theme) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let height = usize::from(area.height);
    let mut lines = vec![Line::styled(
        text::fit("procscope top: keys and columns", width),
        theme.bold,
    )];
    // Empty lines are the first to go.
    let roomy = height > HELP.len();
    let shown = HELP.iter().filter(|line| roomy || !line.is_empty());
    lines.extend(shown.map(|line| Line::raw(text::fit(line, width))));
    lines
}
