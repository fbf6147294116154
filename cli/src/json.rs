//! Answers as JSON, exact and safe to print on a terminal.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::{data::Answer, text};

/// Writes one object and a newline; indented for a person, in one line for a program.
pub(crate) fn write(answer: &Answer, indented: bool, mut out: impl Write) -> io::Result<()> {
    if indented {
        answer.serialize(&mut serde_json::Serializer::with_formatter(
            &mut out,
            Safe(PrettyFormatter::new()),
        ))?;
    } else {
        answer.serialize(&mut serde_json::Serializer::with_formatter(
            &mut out,
            Safe(CompactFormatter),
        ))?;
    }
    out.write_all(b"\n")
}

/// Writes characters that a terminal would obey as `\u…`, which reads back as the very same text.
struct Safe<F>(F);

impl<F: Formatter> Formatter for Safe<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| text::is_unsafe(c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::Value;

    fn written(value: Value, indented: bool) -> String {
        let row = vec![("value", value)];
        let answer = Answer {
            head: vec![(
                "start",
                "1970-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().into(),
            )],
            rows_name: "rows",
            blank: row.clone(),
            rows: vec![row],
        };
        let mut out = Vec::new();
        write(&answer, indented, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn check(value: Value, json: &str) {
        let expected = format!("{{\"start\":\"1970-01-01T00:00:00Z\",\"rows\":[{{\"value\":{json}}}]}}\n");
        assert_eq!(written(value, false), expected);
    }

    #[test]
    fn integers_stay_integers_and_the_unknown_is_null() {
        check(Value::from(u64::MAX), "18446744073709551615");
        check(Value::from(i64::MIN), "-9223372036854775808");
        check(Value::from(None::<u64>), "null");
        check(Value::from(f64::NAN), "null");
        check(Value::from(0.5), "0.5");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_within_json() {
        check(
            Value::from("a\x1b\u{9b}\u{202e}\u{e0041}\"\n"),
            r#""a\u001b\u009b\u202e\udb40\udc41\"\n""#,
        );
    }

    proptest! {
        #[test]
        fn every_text_reads_back_as_itself(text in any::<String>(), indented in any::<bool>()) {
            let json = written(Value::from(&text), indented);
            prop_assert!(!json.replace('\n', "").chars().any(text::is_unsafe));
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["rows"][0]["value"].as_str(), Some(text.as_str()));
        }
    }
}
