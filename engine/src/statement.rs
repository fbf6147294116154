//! Where an INSERT's head ends and its data begins, and which format a statement asks for. Pure.

use std::ops::Range;

use crate::lexer::{Kind, Lexer, Nesting, Token};

/// What stands at the beginning of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// No INSERT with data: the whole text is the statement.
    Whole,
    /// An INSERT whose data follows from byte `data`; `end` is where its head ends, FORMAT clause left out.
    Insert {
        /// The byte after the head.
        end: usize,
        /// The format that the FORMAT clause or VALUES names.
        format: Option<String>,
        /// The first byte of data.
        data: usize,
    },
    /// `INSERT … SELECT … FROM input(…) … FORMAT`, whose data follows from byte `data`; the other fields as above.
    InsertSelect {
        /// The byte after the statement.
        end: usize,
        /// The format that the FORMAT clause names.
        format: String,
        /// The first byte of data.
        data: usize,
        /// Where `input(` stands.
        input: Range<usize>,
    },
    /// An `INSERT … SELECT` with data that no `input(…)` reads, or none that a FORMAT clause names.
    InsertUnreadable,
    /// The text ends before this can be told.
    Incomplete,
}

/// Finds the head of an INSERT in `text`; `complete` says that no more text follows.
#[must_use]
pub fn split_head(text: &[u8], complete: bool) -> Head {
    let mut tokens = Lexer::new(text);
    let mut nesting = Nesting::default();
    let open = |tokens: &Lexer<'_>| !complete && tokens.touched_end();

    let Some(first) = tokens.next() else {
        return if complete { Head::Whole } else { Head::Incomplete };
    };
    if open(&tokens) {
        return Head::Incomplete;
    }
    if !first.is_word(text, "INSERT") {
        return Head::Whole;
    }
    let mut place = Place::BeforeName;
    let mut end = first.end;
    while let Some(token) = tokens.next() {
        if open(&tokens) {
            return Head::Incomplete;
        }
        let depth = nesting.depth(&token);
        if depth == 0 && place == Place::AfterName {
            if token.is_word(text, "VALUES") {
                return Head::Insert {
                    end: token.start,
                    format: Some("Values".to_owned()),
                    data: token.end,
                };
            }
            if token.is_word(text, "FORMAT") {
                return after_format(text, tokens, &token, complete);
            }
        }
        if depth <= 1 && place == Place::AfterName && is_select(text, &token) {
            return insert_select(text, tokens, nesting, complete);
        }
        place = place.after(text, &token);
        // A semicolon at the end is no part of the head.
        if !token.is_symbol(b';') {
            end = token.end;
        }
    }
    if complete {
        Head::Insert {
            end,
            format: None,
            data: text.len(),
        }
    } else {
        Head::Incomplete
    }
}

/// How far the name of the table has been read: words such as `format` can be a table's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeName,
    /// Behind the first part of a name, or behind a dot.
    AfterName,
    AfterDot,
}

impl Place {
    fn after(self, text: &[u8], token: &Token) -> Self {
        match self {
            Self::BeforeName
                if ["INTO", "TABLE", "FUNCTION"]
                    .iter()
                    .any(|word| token.is_word(text, word)) =>
            {
                self
            }
            Self::AfterName if token.is_symbol(b'.') => Self::AfterDot,
            Self::BeforeName | Self::AfterDot | Self::AfterName => Self::AfterName,
        }
    }
}

fn is_select(text: &[u8], token: &Token) -> bool {
    ["SELECT", "WITH", "FROM", "EXPLAIN", "WATCH"]
        .iter()
        .any(|word| token.is_word(text, word))
}

/// Finds `input(` and, behind it, the FORMAT clause and its data; `tokens` goes on behind the SELECT.
fn insert_select(text: &[u8], mut tokens: Lexer<'_>, mut nesting: Nesting, complete: bool) -> Head {
    let rest = tokens.clone();
    let mut input: Option<Range<usize>> = None;
    let mut word: Option<Token> = None;
    while let Some(token) = tokens.next() {
        if !complete && tokens.touched_end() {
            return Head::Incomplete;
        }
        let depth = nesting.depth(&token);
        if let (Some(name), None) = (&word, &input)
            && name.is_word(text, "input")
            && token.is_symbol(b'(')
        {
            input = Some(name.start..token.end);
        }
        if depth == 0
            && token.is_word(text, "FORMAT")
            && let Some(input) = &input
        {
            return match after_format(text, tokens, &token, complete) {
                Head::Insert {
                    end,
                    format: Some(format),
                    data,
                } => Head::InsertSelect {
                    end,
                    format,
                    data,
                    input: input.clone(),
                },
                Head::Incomplete => Head::Incomplete,
                _ => Head::InsertUnreadable,
            };
        }
        word = Some(token);
    }
    if !complete {
        Head::Incomplete
    } else if reads_input(text, rest) {
        Head::InsertUnreadable
    } else {
        Head::Whole
    }
}

/// Whether a table function `input(` stands in the rest, or anything behind a format's name: data either way.
fn reads_input(text: &[u8], rest: Lexer<'_>) -> bool {
    let tokens: Vec<_> = rest.collect();
    let input = tokens
        .windows(2)
        .any(|pair| matches!(pair, [name, open] if name.is_word(text, "input") && open.is_symbol(b'(')));
    let mut nesting = Nesting::default();
    let outer: Vec<_> = tokens.iter().filter(|token| nesting.depth(token) == 0).collect();
    let data = outer.windows(3).any(|three| {
        let [keyword, name, next] = three else {
            return false;
        };
        let goes_on = next.is_symbol(b';') || next.is_symbol(b')') || next.is_word(text, "SETTINGS");
        keyword.is_word(text, "FORMAT") && name.kind == Kind::Word && !goes_on
    });
    input || data
}

/// The head ends before FORMAT; data begins behind the format's name, one line end and blanks skipped.
fn after_format(text: &[u8], mut tokens: Lexer<'_>, format: &Token, complete: bool) -> Head {
    let Some(name) = tokens.next() else {
        return if complete { Head::Whole } else { Head::Incomplete };
    };
    if !complete && tokens.touched_end() {
        return Head::Incomplete;
    }
    let mut data = name.end;
    let at = |data: usize| text.get(data).copied();
    while matches!(at(data), Some(b' ' | b'\t' | 0x0c)) {
        data += 1;
    }
    if at(data) == Some(b';') {
        data += 1;
    }
    if at(data) == Some(b'\r') {
        data += 1;
    }
    if at(data) == Some(b'\n') {
        data += 1;
    } else if !complete && data >= text.len() {
        return Head::Incomplete;
    }
    let name = String::from_utf8_lossy(name.content(text)).into_owned();
    Head::Insert {
        end: format.start,
        format: Some(name),
        data: data.min(text.len()),
    }
}

/// The format that a statement's own FORMAT clause names, if it has one.
#[must_use]
pub fn format_clause(text: &[u8]) -> Option<String> {
    let mut nesting = Nesting::default();
    let outer: Vec<_> = Lexer::new(text)
        .filter(|token| nesting.depth(token) == 0)
        .collect();
    outer.windows(2).enumerate().rev().find_map(|(at, pair)| {
        let [keyword, name] = pair else { return None };
        let ends_here = outer.get(at + 2).is_none_or(|next| {
            next.is_symbol(b';') || next.is_word(text, "SETTINGS") || next.is_word(text, "INTO")
        });
        let named = matches!(name.kind, Kind::Word | Kind::QuotedName);
        (keyword.is_word(text, "FORMAT") && named && ends_here)
            .then(|| String::from_utf8_lossy(name.content(text)).into_owned())
    })
}

/// Whether the statement is one whose rows the engine can hand over in chunks: SELECT, also behind WITH or `(`.
#[must_use]
pub fn is_streamable_read(text: &[u8]) -> bool {
    Lexer::new(text)
        .find(|token| !token.is_symbol(b'('))
        .is_some_and(|first| first.is_word(text, "SELECT") || first.is_word(text, "WITH"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, head: &str, format: Option<&str>, data: &str) {
        match split_head(text.as_bytes(), true) {
            Head::Insert {
                end,
                format: found,
                data: from,
            } => {
                assert_eq!(
                    (text[..end].trim_end(), found.as_deref(), &text[from..]),
                    (head, format, data),
                    "{text}"
                );
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn data_begins_behind_the_format_and_one_line_end() {
        check(
            "INSERT INTO t (a, b) FORMAT CSV\n1,2\n\n3,4",
            "INSERT INTO t (a, b)",
            Some("CSV"),
            "1,2\n\n3,4",
        );
        check(
            "insert into t format Native \r\n\u{1}\n",
            "insert into t",
            Some("Native"),
            "\u{1}\n",
        );
        check("INSERT INTO t FORMAT CSV;\n1", "INSERT INTO t", Some("CSV"), "1");
        check(
            "INSERT INTO t FORMAT JSONEachRow {\"a\":1}",
            "INSERT INTO t",
            Some("JSONEachRow"),
            "{\"a\":1}",
        );
    }

    #[test]
    fn values_are_data() {
        check(
            "INSERT INTO t VALUES (1, 'x;')",
            "INSERT INTO t",
            Some("Values"),
            " (1, 'x;')",
        );
        check(
            "INSERT INTO t(a)values(1)",
            "INSERT INTO t(a)",
            Some("Values"),
            "(1)",
        );
    }

    #[test]
    fn settings_comments_quotes_and_parentheses_belong_to_the_head() {
        check(
            "/* FORMAT x */ INSERT INTO `format`.\"values\" (`select`, b /* ) */) SETTINGS a = 'FORMAT CSV' -- VALUES\n FORMAT TSV\n1",
            "/* FORMAT x */ INSERT INTO `format`.\"values\" (`select`, b /* ) */) SETTINGS a = 'FORMAT CSV' -- VALUES",
            Some("TSV"),
            "1",
        );
        check(
            "INSERT INTO TABLE format (a) FORMAT CSV\n1",
            "INSERT INTO TABLE format (a)",
            Some("CSV"),
            "1",
        );
        check(
            "INSERT INTO values.format FORMAT CSV\n1",
            "INSERT INTO values.format",
            Some("CSV"),
            "1",
        );
    }

    #[test]
    fn without_a_format_the_whole_text_is_the_head() {
        check("INSERT INTO t (a)", "INSERT INTO t (a)", None, "");
        check("INSERT INTO t (a);", "INSERT INTO t (a)", None, "");
    }

    #[test]
    fn what_reads_its_rows_elsewhere_has_no_data() {
        for text in [
            "INSERT INTO t SELECT 1 FORMAT CSV",
            "INSERT INTO t (a) (SELECT 1)",
            "INSERT INTO t WITH 1 AS x SELECT x",
            "SELECT 1",
            "",
            "-- INSERT",
        ] {
            assert_eq!(split_head(text.as_bytes(), true), Head::Whole, "{text}");
        }
        for text in [
            "INSERT INTO t SELECT 1 FORMAT CSV\n1\n\nDROP TABLE t",
            "INSERT INTO t SELECT * FROM input('a Int8')",
        ] {
            assert_eq!(
                split_head(text.as_bytes(), true),
                Head::InsertUnreadable,
                "{text}"
            );
        }
    }

    #[test]
    fn a_select_from_input_ends_before_its_format() {
        let text =
            "INSERT INTO t (a) SELECT a FROM input('a Int8') WHERE a IN (SELECT 1) FORMAT CSV\n1\n\nFORMAT";
        for (given, complete) in [(text, true), (text, false)] {
            let Head::InsertSelect {
                end,
                format,
                data,
                input,
            } = split_head(given.as_bytes(), complete)
            else {
                panic!("{given}");
            };
            assert_eq!(
                (&given[..end], format.as_str()),
                (
                    "INSERT INTO t (a) SELECT a FROM input('a Int8') WHERE a IN (SELECT 1) ",
                    "CSV"
                )
            );
            assert_eq!((&given[data..], &given[input]), ("1\n\nFORMAT", "input("));
        }
        for cut in 0..text.find("CSV").unwrap() + 3 {
            assert_eq!(
                split_head(&text.as_bytes()[..cut], false),
                Head::Incomplete,
                "{cut}"
            );
        }
    }

    #[test]
    fn a_cut_head_waits_for_more() {
        let text = "INSERT INTO t (a) FORMAT Native\n";
        for cut in 0..text.len() - 1 {
            assert_eq!(
                split_head(&text.as_bytes()[..cut], false),
                Head::Incomplete,
                "{cut}"
            );
        }
        assert!(matches!(split_head(text.as_bytes(), false), Head::Insert { .. }));
    }

    #[test]
    fn the_format_clause_is_the_outer_one() {
        for (text, format) in [
            ("SELECT 1 FORMAT JSON", Some("JSON")),
            ("SELECT 1 format TSV;", Some("TSV")),
            ("SELECT 1 FORMAT CSV SETTINGS max_threads = 1", Some("CSV")),
            ("SELECT 'FORMAT JSON' -- FORMAT JSON", None),
            ("SELECT format FROM (SELECT 1 AS format)", None),
            ("SELECT format('{}', 1)", None),
        ] {
            assert_eq!(format_clause(text.as_bytes()).as_deref(), format, "{text}");
        }
    }

    #[test]
    fn only_selects_are_streamed() {
        for (text, streamed) in [
            ("select 1", true),
            ("(SELECT 1)", true),
            ("WITH 1 AS x SELECT x", true),
            ("SHOW TABLES", false),
            ("EXPLAIN SELECT 1", false),
        ] {
            assert_eq!(is_streamable_read(text.as_bytes()), streamed, "{text}");
        }
    }

    proptest! {
        #[test]
        fn data_is_never_read_as_head(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let head = b"INSERT INTO t (a) SETTINGS x = 1 FORMAT Native\n";
            let text = [head.as_slice(), &data].concat();
            prop_assert_eq!(
                split_head(&text, true),
                Head::Insert { end: 40 - 7, format: Some("Native".to_owned()), data: head.len() }
            );
        }

        #[test]
        fn any_bytes_are_split_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200), complete in any::<bool>()) {
            if let Head::Insert { end, data, .. } = split_head(&text, complete) {
                prop_assert!(end <= text.len() && data <= text.len());
            }
        }
    }
}
