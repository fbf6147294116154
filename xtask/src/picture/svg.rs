//! A screen with its colours, as a terminal would be told it, into a picture. Pure. Knows what `tmux capture-pane -e`
//! writes: text and the sequences that choose a look.

use std::fmt::Write as _;

/// Cells of the picture, in its own units.
const CELL_WIDTH: u32 = 8;
const CELL_HEIGHT: u32 = 18;
const MARGIN: u32 = 12;
/// Where letters stand within a cell.
const BASELINE: u32 = 13;
const GROUND: &str = "#16181d";
const TEXT: &str = "#d5d8de";
/// The sixteen colours of a terminal.
const COLORS: [&str; 16] = [
    "#16181d", "#e06c75", "#7fbf6a", "#d9a84e", "#61a0e8", "#c07be0", "#56b6c2", "#d5d8de", "#6b7280",
    "#ef8089", "#98d883", "#ecc06a", "#7fb8f5", "#d194ee", "#74cdd8", "#ffffff",
];

/// How a cell looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Look {
    text: Option<String>,
    ground: Option<String>,
    bold: bool,
    dim: bool,
    reversed: bool,
}

impl Look {
    /// Takes in the parameters of one sequence.
    fn choose(&mut self, parameters: &str) {
        let mut numbers = parameters
            .split(';')
            .map(|number| number.parse::<u8>().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                7 => self.reversed = true,
                22 => (self.bold, self.dim) = (false, false),
                27 => self.reversed = false,
                30..=37 => self.text = Some(indexed(number - 30)),
                38 | 48 => {
                    let color = match (numbers.next(), numbers.next()) {
                        (Some(5), Some(index)) => Some(indexed(index)),
                        _ => None,
                    };
                    if number == 38 {
                        self.text = color;
                    } else {
                        self.ground = color;
                    }
                }
                39 => self.text = None,
                40..=47 => self.ground = Some(indexed(number - 40)),
                49 => self.ground = None,
                90..=97 => self.text = Some(indexed(number - 82)),
                _ => {}
            }
        }
    }

    /// Colours of text and ground as they are seen.
    fn colors(&self) -> (String, Option<String>) {
        let text = self.text.clone().unwrap_or_else(|| TEXT.to_owned());
        if self.reversed {
            (
                self.ground.clone().unwrap_or_else(|| GROUND.to_owned()),
                Some(text),
            )
        } else {
            (text, self.ground.clone())
        }
    }
}

/// One of the 256 colours.
fn indexed(index: u8) -> String {
    let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    match index {
        0..=15 => COLORS[usize::from(index)].to_owned(),
        16..=231 => {
            let cube = index - 16;
            format!(
                "#{:02x}{:02x}{:02x}",
                level(cube / 36),
                level(cube / 6 % 6),
                level(cube % 6)
            )
        }
        gray => {
            let gray = 8 + 10 * (gray - 232);
            format!("#{gray:02x}{gray:02x}{gray:02x}")
        }
    }
}

/// Cells in a row with one look.
struct Run {
    column: u32,
    text: String,
    look: Look,
}

/// A line as runs; a look lasts beyond the end of a line.
fn runs(line: &str, look: &mut Look) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut column = 0;
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[") {
            let end = sequence
                .find(|c: char| c.is_ascii_alphabetic())
                .unwrap_or(sequence.len());
            if sequence[end..].starts_with('m') {
                look.choose(&sequence[..end]);
            }
            rest = sequence.get(end + 1..).unwrap_or("");
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.look == *look => run.text.push(c),
            _ => runs.push(Run {
                column,
                text: c.to_string(),
                look: look.clone(),
            }),
        }
        column += 1;
        rest = &rest[c.len_utf8()..];
    }
    runs
}

/// How much of a cell a block of a bar covers; `None`: it is a letter.
fn shade(c: char) -> Option<&'static str> {
    match c {
        '█' => Some("1"),
        '▓' => Some("0.75"),
        '▒' => Some("0.5"),
        _ => None,
    }
}

/// The picture of a screen of so many columns.
pub(super) fn picture(screen: &str, columns: u32, title: &str) -> String {
    let lines: Vec<&str> = screen.lines().collect();
    let rows = u32::try_from(lines.len()).unwrap_or(0);
    let (width, height) = (columns * CELL_WIDTH + 2 * MARGIN, rows * CELL_HEIGHT + 2 * MARGIN);
    let mut svg = String::new();
    let mut put = |line: std::fmt::Arguments<'_>| {
        // Writing into a String does not fail.
        let _written = writeln!(svg, "{line}");
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"13\" role=\"img\">"
    ));
    put(format_args!("<title>{}</title>", escaped(title)));
    put(format_args!(
        "<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{GROUND}\"/>"
    ));
    let mut look = Look::default();
    for (line, row) in lines.iter().zip(0_u32..) {
        let top = MARGIN + row * CELL_HEIGHT;
        for run in runs(line, &mut look) {
            draw(&run, top, &mut put);
        }
    }
    put(format_args!("</svg>"));
    svg
}

fn draw(run: &Run, top: u32, put: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    let (text, ground) = run.look.colors();
    let x = |column: u32| MARGIN + column * CELL_WIDTH;
    let cells = u32::try_from(run.text.chars().count()).unwrap_or(0);
    if let Some(ground) = ground {
        put(format_args!(
            "<rect x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{CELL_HEIGHT}\" fill=\"{ground}\"/>",
            x(run.column),
            cells * CELL_WIDTH
        ));
    }
    let mut column = run.column;
    for part in run
        .text
        .chars()
        .collect::<Vec<char>>()
        .chunk_by(|a, b| shade(*a) == shade(*b))
    {
        let wide = u32::try_from(part.len()).unwrap_or(0);
        if let Some(shade) = shade(part[0]) {
            put(format_args!(
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{text}\" opacity=\"{shade}\"/>",
                x(column),
                top + 3,
                wide * CELL_WIDTH,
                CELL_HEIGHT - 6
            ));
        } else {
            words(part, column, run, &text, top, put);
        }
        column += wide;
    }
}

/// Letters, without the blanks around them. Their length is said, so that columns stand in every font.
fn words(
    part: &[char],
    column: u32,
    run: &Run,
    color: &str,
    top: u32,
    put: &mut impl FnMut(std::fmt::Arguments<'_>),
) {
    let mut at = column;
    // A word at a time: blanks are nothing to draw.
    for piece in part.chunk_by(|a, b| (*a == ' ') == (*b == ' ')) {
        let wide = u32::try_from(piece.len()).unwrap_or(0);
        if piece[0] != ' ' {
            let text: String = piece.iter().collect();
            let weight = if run.look.bold {
                " font-weight=\"bold\""
            } else {
                ""
            };
            let opacity = if run.look.dim { " opacity=\"0.6\"" } else { "" };
            put(format_args!(
                "<text x=\"{}\" y=\"{}\" fill=\"{color}\" textLength=\"{}\"{weight}{opacity}>{}</text>",
                MARGIN + at * CELL_WIDTH,
                top + BASELINE,
                wide * CELL_WIDTH,
                escaped(&text)
            ));
        }
        at += wide;
    }
}

fn escaped(text: &str) -> String {
    let safe = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    safe.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_keeps_its_columns_and_colours() {
        let screen = "a \x1b[1m\x1b[38;5;77mb<&\x1b[0m\n\x1b[7m██ x\x1b[m";
        let picture = picture(screen, 10, "top");
        for part in [
            ">a</text>",
            "<text x=\"28\" y=\"25\" fill=\"#5fd75f\" textLength=\"24\" font-weight=\"bold\">b&lt;&amp;</text>",
            "<rect x=\"12\" y=\"30\" width=\"32\" height=\"18\" fill=\"#d5d8de\"/>",
            "<rect x=\"12\" y=\"33\" width=\"16\" height=\"12\" fill=\"#16181d\" opacity=\"1\"/>",
            "width=\"104\" height=\"60\"",
        ] {
            assert!(picture.contains(part), "{part}: {picture}");
        }
    }

    #[test]
    fn all_colours_have_a_value() {
        assert_eq!(indexed(1), "#e06c75");
        assert_eq!(
            (indexed(16), indexed(231)),
            ("#000000".to_owned(), "#ffffff".to_owned())
        );
        assert_eq!(indexed(255), "#eeeeee");
    }
}
