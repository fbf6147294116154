//! Text that came from elsewhere, made safe for a terminal, and its width there. Names of processes are
//! chosen by whoever runs them, so each is taken for hostile.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Longer texts are cut before anything else is done with them; no terminal is wider.
const CHARS_MAX: usize = 4096;

/// Marks that stand on top of the character before them; more than these are a way to paint over other lines.
const MARKS_MAX: usize = 2;

/// The same text without anything that a terminal obeys or that hides or reorders what stands beside it:
/// control characters become `\x1b`, others `\u{202e}`. A text that is safe comes back unchanged.
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(CHARS_MAX));
    // A mark at the beginning would sit on what we wrote before it.
    let mut marks = MARKS_MAX;
    for c in text.chars().take(CHARS_MAX) {
        let mark = c.width() == Some(0);
        if is_unsafe(c) || (mark && marks >= MARKS_MAX) {
            escape(c, &mut out);
            marks = 0;
        } else {
            out.push(c);
            marks = if mark { marks + 1 } else { 0 };
        }
    }
    out
}

/// Characters that must never reach a terminal as they are.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            // Format characters (Cf): joiners, bidirectional marks, overrides and isolates, tags.
            0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x180B..=0x180F
            | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF0..=0xFFFB
            | 0x110BD | 0x110CD | 0x13430..=0x1345F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
            | 0xE0000..=0xE0FFF
            // Selectors change the width of the character before them, fillers and blanks look like nothing.
            | 0xFE00..=0xFE0F | 0x34F | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x3164 | 0xFFA0 | 0x2800
            // For private use: a terminal draws what it likes.
            | 0xE000..=0xF8FF | 0xF0000..=0x10_FFFF
        )
}

fn escape(c: char, out: &mut String) {
    let code = u32::from(c);
    let escaped = if code < 0x100 {
        format!("\\x{code:02x}")
    } else {
        format!("\\u{{{code:x}}}")
    };
    out.push_str(&escaped);
}

/// Columns of the terminal that a safe text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most `columns` columns; `…` stands for what had to go.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else {
        return String::new();
    };
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if width(&out) > room {
            out.pop();
            break;
        }
    }
    out.push('…');
    out
}

/// The text up to a column of the terminal, and from there; a wide character that lies across goes to the second part.
pub(crate) fn split(text: &str, column: usize) -> (&str, &str) {
    let mut before = 0;
    for (start, c) in text.char_indices() {
        before += c.width().unwrap_or(0);
        if before > column {
            return text.split_at(start);
        }
    }
    (text, "")
}

/// The end of the text in at most `columns` columns; for paths, whose end says most.
pub(crate) fn fit_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else {
        return String::new();
    };
    let starts = text.char_indices().map(|(start, _)| &text[start..]);
    let end = starts.skip(1).find(|end| width(end) <= room).unwrap_or_default();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(hostile: &str, shown: &str) {
        assert_eq!(safe(hostile), shown);
    }

    #[test]
    fn an_escape_sequence_is_shown_and_not_obeyed() {
        check("a\x1b[2Jb", "a\\x1b[2Jb");
        check("a\nb\tc\r", "a\\x0ab\\x09c\\x0d");
        check("\u{9b}31m\x7f", "\\x9b31m\\x7f");
    }

    #[test]
    fn an_override_of_the_direction_is_shown() {
        check("gpj\u{202e}exe", "gpj\\u{202e}exe");
        check("\u{2066}\u{200b}\u{feff}", "\\u{2066}\\u{200b}\\u{feff}");
    }

    #[test]
    fn ordinary_names_of_any_script_stay_as_they_are() {
        for name in [
            "nginx",
            "kworker/0:1-events",
            "naïve",
            "数据库",
            "база",
            "🦀",
            "(sd-pam)",
            "e\u{301}",
        ] {
            check(name, name);
        }
    }

    #[test]
    fn marks_do_not_pile_up() {
        check("\u{301}a", "\\u{301}a");
        check("a\u{301}\u{301}\u{301}", "a\u{301}\u{301}\\u{301}");
    }

    #[test]
    fn a_wide_character_that_does_not_fit_whole_is_left_out() {
        assert_eq!(fit("数据库", 6), "数据库");
        assert_eq!(fit("数据库", 5), "数据…");
        assert_eq!(fit("数据库", 4), "数…");
        assert_eq!(fit("abc", 1), "…");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(fit_end("/数据库", 5), "…据库");
        assert_eq!(fit_end("/bin/true", 6), "…/true");
    }

    #[test]
    fn a_text_is_split_by_columns_and_marks_stay_with_their_letter() {
        assert_eq!(split("abc", 2), ("ab", "c"));
        assert_eq!(split("数据库", 4), ("数据", "库"));
        assert_eq!(split("数据库", 3), ("数", "据库"));
        assert_eq!(split("e\u{301}a", 1), ("e\u{301}", "a"));
        assert_eq!(split("abc", 9), ("abc", ""));
    }

    proptest! {
        #[test]
        fn nothing_unsafe_survives(text in any::<String>()) {
            let shown = safe(&text);
            prop_assert!(!shown.chars().any(is_unsafe), "{shown:?}");
            prop_assert_eq!(safe(&shown), shown.clone());
        }

        #[test]
        fn what_is_fitted_fits(text in any::<String>(), columns in 0_usize..50) {
            prop_assert!(width(&fit(&safe(&text), columns)) <= columns);
            prop_assert!(width(&fit_end(&safe(&text), columns)) <= columns);
        }
    }
}
