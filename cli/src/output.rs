//! The way out: one answer to standard output, as table, JSON or CSV. A reader that has gone away
//! (`procscope top --once | head -1`) has what it wanted.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use procscope_startup::{Failure, Result};

use crate::{config::Format, data::Answer, json, sheet, table::Table};

/// Width of what is printed to no terminal.
const WIDTH_WITHOUT_TERMINAL: usize = 120;

/// One answer for a person.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Lines above the table.
    pub heading: Vec<String>,
    /// `None` when there are only lines.
    pub table: Option<Table>,
    /// The same at a glance, below the table and on terminals only: elsewhere lines are read by programs.
    pub chart: Vec<String>,
    /// Lines below all of it.
    pub notes: Vec<String>,
}

impl Page {
    /// All of it as lines of at most `width` columns.
    pub(crate) fn text(&self, width: usize) -> String {
        let mut lines = self.heading.clone();
        if let Some(table) = &self.table {
            let table = table.lines(width);
            lines.push(table.titles);
            lines.extend(table.rows);
        }
        lines.extend(self.chart.iter().cloned());
        lines.extend(self.notes.iter().map(|note| crate::text::fit(note, width)));
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

/// Columns of the terminal, or what is taken when there is none.
pub(crate) fn width() -> usize {
    let size = if io::stdout().is_terminal() {
        crossterm::terminal::size().ok()
    } else {
        None
    };
    match size {
        Some((columns, _)) if columns > 0 => usize::from(columns),
        _ => WIDTH_WITHOUT_TERMINAL,
    }
}

/// Prints an answer in the format that was asked for.
///
/// # Errors
/// Exit code 1 when standard output takes nothing, as when a disk is full.
pub(crate) fn print(
    format: Format,
    answer: impl FnOnce() -> Answer,
    page: impl FnOnce(usize) -> Page,
) -> Result<()> {
    let mut out = Vec::new();
    let made = match format {
        Format::Json => json::write(&answer(), io::stdout().is_terminal(), &mut out),
        Format::Csv => sheet::write(&answer(), &mut out),
        Format::Table => {
            let width = width();
            let mut page = page(width);
            if !io::stdout().is_terminal() {
                page.chart.clear();
            }
            out.extend_from_slice(page.text(width).as_bytes());
            Ok(())
        }
    };
    written(made.and_then(|()| write(&out)))
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// As `print`.
pub(crate) fn raw(bytes: &[u8]) -> Result<()> {
    written(write(bytes))
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn written(outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(format_args!(
            "could not write the answer to standard output: {error}; see where it leads"
        ))),
    }
}
