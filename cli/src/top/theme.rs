//! What things look like on which terminal. Pure: the environment comes in by the door.

use ratatui::style::{Color, Modifier, Style};

use crate::{args::Colors, chart::Look};

/// CPU in percent of one CPU from which a figure is warm, and hot.
const WARM: f64 = 25.0;
const HOT: f64 = 75.0;

/// What an environment says about its terminal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terminal<'a> {
    /// `NO_COLOR`: any text asks for none.
    pub no_color: Option<&'a str>,
    /// `TERM`.
    pub term: Option<&'a str>,
    /// `COLORTERM`.
    pub colorterm: Option<&'a str>,
    /// `COLORFGBG`: the numbers of text and background, such as `15;0`.
    pub colorfgbg: Option<&'a str>,
}

/// The styles of all that is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub bold: Style,
    pub dim: Style,
    pub warn: Style,
    pub titles: Style,
    pub sorted_title: Style,
    pub selected: Style,
    /// What a key is called, and what it does.
    pub key: Style,
    pub key_word: Style,
    /// The screen is not one of now.
    pub badge: Style,
    pub bar_processes: Style,
    pub bar_kernel: Style,
    pub bar_taken: Style,
    pub bar_memory: Style,
    pub name: Style,
    pub kernel_thread: Style,
    pub user: Style,
    pub warm: Style,
    pub hot: Style,
    pub curves: [Style; 3],
}

impl Theme {
    /// The one that was chosen, or what suits the terminal.
    pub(super) fn new(colors: Colors, terminal: Terminal<'_>) -> Self {
        match colors {
            Colors::None => Self::plain(),
            Colors::Basic => Self::basic(),
            Colors::Dark => Self::rich(false),
            Colors::Light => Self::rich(true),
            Colors::Auto => terminal.theme(),
        }
    }

    /// No colour at all: bold, dim and reversed only.
    pub(super) fn plain() -> Self {
        let plain = Style::new();
        let (bold, dim) = (
            plain.add_modifier(Modifier::BOLD),
            plain.add_modifier(Modifier::DIM),
        );
        let reversed = plain.add_modifier(Modifier::REVERSED);
        Self {
            bold,
            dim,
            warn: bold,
            titles: reversed,
            sorted_title: reversed.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            selected: reversed,
            key: bold,
            key_word: plain,
            badge: reversed,
            bar_processes: plain,
            bar_kernel: plain,
            bar_taken: plain,
            bar_memory: plain,
            name: plain,
            kernel_thread: plain,
            user: plain,
            warm: plain,
            hot: bold,
            curves: [plain; 3],
        }
    }

    /// The sixteen colours that a terminal's owner chose: they can be read on dark and on light grounds, so none is
    /// black or white unless on a ground of ours.
    pub(super) fn basic() -> Self {
        let on = |text, ground| Style::new().fg(text).bg(ground);
        let color = |color| Style::new().fg(color);
        Self {
            warn: color(Color::Yellow),
            titles: on(Color::Black, Color::Green),
            sorted_title: on(Color::Black, Color::Cyan),
            selected: on(Color::Black, Color::Cyan),
            key_word: on(Color::Black, Color::Cyan),
            badge: on(Color::Black, Color::Yellow),
            bar_processes: color(Color::Green),
            bar_kernel: color(Color::Red),
            bar_taken: color(Color::Magenta),
            bar_memory: color(Color::Blue),
            name: color(Color::Cyan),
            kernel_thread: color(Color::Magenta),
            user: color(Color::Blue),
            warm: color(Color::Yellow),
            hot: color(Color::Red).add_modifier(Modifier::BOLD),
            curves: [color(Color::Green), color(Color::Blue), color(Color::Red)],
            ..Self::plain()
        }
    }

    /// Of 256 colours those that suit the ground.
    fn rich(light: bool) -> Self {
        let pick = |on_dark, on_light| Color::Indexed(if light { on_light } else { on_dark });
        let color = |on_dark, on_light| Style::new().fg(pick(on_dark, on_light));
        let ground =
            |text, on_dark, on_light| Style::new().fg(Color::Indexed(text)).bg(pick(on_dark, on_light));
        Self {
            dim: color(244, 243),
            warn: color(214, 130),
            titles: ground(16, 71, 114),
            sorted_title: ground(16, 80, 80),
            selected: ground(16, 80, 117),
            key_word: ground(16, 73, 152),
            badge: ground(16, 214, 214),
            bar_processes: color(77, 28),
            bar_kernel: color(203, 160),
            bar_taken: color(177, 91),
            bar_memory: color(75, 26),
            name: color(80, 24),
            kernel_thread: color(140, 97),
            user: color(110, 61),
            warm: color(221, 130),
            hot: color(203, 160).add_modifier(Modifier::BOLD),
            curves: [color(77, 28), color(75, 26), color(214, 130)],
            ..Self::basic()
        }
    }

    /// A figure of CPU or of waiting, in percent of one CPU.
    pub(super) fn heat(&self, percent: f64) -> Style {
        match percent {
            percent if percent >= HOT => self.hot,
            percent if percent >= WARM => self.warm,
            percent if percent < 0.05 => self.dim,
            _ => Style::new(),
        }
    }

    /// The same for charts.
    pub(super) fn look(&self) -> Look {
        Look {
            title: self.bold,
            axis: self.dim,
            curves: self.curves,
        }
    }
}

impl Terminal<'_> {
    fn theme(self) -> Theme {
        let term = self.term.unwrap_or_default();
        if self.no_color.is_some_and(|text| !text.is_empty()) || matches!(term, "dumb" | "vt100" | "vt220") {
            return Theme::plain();
        }
        let many = term.contains("256color")
            || term.contains("direct")
            || matches!(self.colorterm, Some("truecolor" | "24bit"));
        // Only where the ground is known are colours chosen for it.
        match self.colorfgbg.and_then(|colors| colors.rsplit(';').next()) {
            Some("7" | "15") if many => Theme::rich(true),
            Some(ground) if many && ground.parse::<u8>().is_ok() => Theme::rich(false),
            _ => Theme::basic(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(terminal: Terminal<'_>, expected: &Theme) {
        assert_eq!(
            format!("{:?}", Theme::new(Colors::Auto, terminal)),
            format!("{expected:?}"),
            "{terminal:?}"
        );
    }

    #[test]
    fn a_terminal_gets_the_colours_it_can_show() {
        let xterm = Terminal {
            term: Some("xterm-256color"),
            ..Terminal::default()
        };
        let no_color = |no_color| Terminal { no_color, ..xterm };
        let ground = |colorfgbg| Terminal { colorfgbg, ..xterm };
        check(no_color(Some("1")), &Theme::plain());
        check(no_color(Some("")), &Theme::basic());
        check(
            Terminal {
                term: Some("dumb"),
                ..xterm
            },
            &Theme::plain(),
        );
        check(xterm, &Theme::basic());
        check(ground(Some("15;0")), &Theme::rich(false));
        check(ground(Some("0;default;15")), &Theme::rich(true));
        check(ground(Some("default;default")), &Theme::basic());
        check(
            Terminal {
                term: Some("xterm"),
                ..ground(Some("0;15"))
            },
            &Theme::basic(),
        );
    }

    #[test]
    fn what_is_plain_has_no_colour_and_what_is_hot_is_seen() {
        let shown = format!("{:?}", Theme::plain());
        assert!(
            !shown.contains("fg: Some") && !shown.contains("bg: Some"),
            "{shown}"
        );
        let theme = Theme::basic();
        assert_eq!(theme.heat(90.0), theme.hot);
        assert_eq!(theme.heat(30.0), theme.warm);
        assert_eq!(theme.heat(1.0), Style::new());
        assert_eq!(theme.heat(0.0), theme.dim);
        assert_eq!(theme.heat(f64::NAN), Style::new());
    }
}
