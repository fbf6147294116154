//! Rows into aligned lines that fit a width; pure. Cells must be safe text already.

use crate::text;

/// Blanks between two columns.
const GAP: usize = 2;
/// Columns are left out before the last one becomes narrower than this.
const LAST_MIN: usize = 16;

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    /// For numbers.
    Right,
    /// Left, and of what is too wide the end is shown.
    Path,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    align: Align,
    /// Narrower cells leave the column as wide as this, so that it does not jump from one second to the next.
    width_min: usize,
    /// Wider cells are cut, unless the column is the last.
    width_max: usize,
    /// When the line is too narrow, the columns with the greatest number go first; 0 stays.
    spare: u8,
}

impl Column {
    /// A column of numbers.
    pub(crate) const fn number(title: &'static str) -> Self {
        Self {
            title,
            align: Align::Right,
            width_min: 0,
            width_max: 24,
            spare: 0,
        }
    }

    /// A column of text.
    pub(crate) const fn text(title: &'static str, width_max: usize) -> Self {
        Self {
            title,
            align: Align::Left,
            width_min: 0,
            width_max,
            spare: 0,
        }
    }

    /// A column of paths.
    pub(crate) const fn path(title: &'static str) -> Self {
        Self {
            align: Align::Path,
            ..Self::text(title, usize::MAX)
        }
    }

    /// The same column, never narrower than this unless it is the last.
    pub(crate) const fn at_least(self, width_min: usize) -> Self {
        Self { width_min, ..self }
    }

    /// The same column, left out early or late when there is no room.
    pub(crate) const fn spare(self, spare: u8) -> Self {
        Self { spare, ..self }
    }
}

/// Rows under their titles.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A table as lines of text.
#[derive(Debug)]
pub(crate) struct Lines {
    pub titles: String,
    /// In the order of the rows.
    pub rows: Vec<String>,
    /// Where each column that is shown stands.
    pub places: Vec<Place>,
}

/// Where a column stands in each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub title: &'static str,
    /// First column of the terminal, and how many of them.
    pub start: usize,
    pub width: usize,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn push(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// All lines, none wider than `width`.
    pub(crate) fn lines(&self, width: usize) -> Lines {
        let layout = self.layout(width);
        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.title.to_owned())
            .collect();
        Lines {
            titles: self.line(&titles, &layout, width),
            rows: self
                .rows
                .iter()
                .map(|row| self.line(row, &layout, width))
                .collect(),
            places: self.places(&layout),
        }
    }

    fn places(&self, layout: &[(usize, usize)]) -> Vec<Place> {
        let mut start = 0;
        let mut places = Vec::with_capacity(layout.len());
        for &(index, width) in layout {
            let title = self.columns[index].title;
            places.push(Place { title, start, width });
            start += width + GAP;
        }
        places
    }

    /// Index and width of each column that is shown.
    fn layout(&self, width: usize) -> Vec<(usize, usize)> {
        let natural = |index: usize, column: &Column| {
            let cells = self
                .rows
                .iter()
                .filter_map(|row| row.get(index))
                .map(|cell| text::width(cell));
            cells.max().unwrap_or(0).max(text::width(column.title))
        };
        let mut layout: Vec<(usize, usize)> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| (index, natural(index, column)))
            .collect();
        loop {
            let last = layout.len().saturating_sub(1);
            let mut fixed = GAP * last;
            for (index, wide) in &mut layout[..last] {
                let column = &self.columns[*index];
                *wide = (*wide).max(column.width_min).min(column.width_max);
                fixed += *wide;
            }
            let Some((_, wide)) = layout.last_mut() else {
                return layout;
            };
            let room = width.saturating_sub(fixed);
            if room >= (*wide).min(LAST_MIN) {
                *wide = (*wide).min(room);
                return layout;
            }
            let spare = layout
                .iter()
                .enumerate()
                .max_by_key(|(_, (index, _))| self.columns[*index].spare);
            match spare {
                Some((position, &(index, _))) if self.columns[index].spare > 0 => {
                    layout.remove(position);
                }
                _ => {
                    if let Some((_, wide)) = layout.last_mut() {
                        *wide = (*wide).min(room.max(1));
                    }
                    return layout;
                }
            }
        }
    }

    fn line(&self, cells: &[String], layout: &[(usize, usize)], width: usize) -> String {
        let mut line = String::new();
        for (position, &(index, wide)) in layout.iter().enumerate() {
            if position > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            let column = &self.columns[index];
            let cell = cells.get(index).map_or("", String::as_str);
            let cell = match column.align {
                Align::Path => text::fit_end(cell, wide),
                Align::Left | Align::Right => text::fit(cell, wide),
            };
            let blanks = " ".repeat(wide - text::width(&cell).min(wide));
            match column.align {
                Align::Left | Align::Path => line.extend([cell, blanks]),
                Align::Right => line.extend([blanks, cell]),
            }
        }
        text::fit(line.trim_end(), width)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec![
            Column::number("PID"),
            Column::text("USER", 8).spare(1),
            Column::number("CPU%"),
            Column::text("NAME", 20),
            Column::text("COMMAND", 80).spare(2),
        ]);
        for (pid, user, cpu, name, command) in [
            ("1", "root", "0.1", "systemd", "/sbin/init splash"),
            ("4711", "数据", "99.9", "数据库", "x"),
        ] {
            table.push([pid, user, cpu, name, command].map(str::to_owned).to_vec());
        }
        table
    }

    fn check(width: usize, expected: &[&str]) {
        let lines = table().lines(width);
        let mut all = vec![lines.titles];
        all.extend(lines.rows);
        assert_eq!(all, expected);
    }

    #[test]
    fn numbers_stand_right_and_wide_characters_take_two_columns() {
        check(
            120,
            &[
                " PID  USER  CPU%  NAME     COMMAND",
                "   1  root   0.1  systemd  /sbin/init splash",
                "4711  数据  99.9  数据库   x",
            ],
        );
    }

    #[test]
    fn the_last_column_is_cut_first_and_then_columns_go() {
        check(
            43,
            &[
                " PID  USER  CPU%  NAME     COMMAND",
                "   1  root   0.1  systemd  /sbin/init spla…",
                "4711  数据  99.9  数据库   x",
            ],
        );
        check(
            30,
            &[
                " PID  USER  CPU%  NAME",
                "   1  root   0.1  systemd",
                "4711  数据  99.9  数据库",
            ],
        );
        check(
            20,
            &[" PID  CPU%  NAME", "   1   0.1  systemd", "4711  99.9  数据库"],
        );
        check(
            17,
            &[" PID  CPU%  NAME", "   1   0.1  syst…", "4711  99.9  数据…"],
        );
    }

    #[test]
    fn places_say_where_each_column_stands() {
        let lines = table().lines(30);
        let cut: Vec<String> = lines
            .places
            .iter()
            .map(|place| lines.titles.chars().skip(place.start).take(place.width).collect())
            .collect();
        assert_eq!(cut, [" PID", "USER", "CPU%", "NAME"]);
        assert_eq!(lines.places[3].title, "NAME");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(
            width in 0_usize..150,
            cells in proptest::collection::vec(any::<String>(), 5),
        ) {
            let mut table = table();
            table.push(cells.iter().map(|cell| text::safe(cell)).collect());
            let lines = table.lines(width);
            for line in lines.rows.iter().chain([&lines.titles]) {
                prop_assert!(text::width(line) <= width, "{line:?}");
            }
        }
    }
}
