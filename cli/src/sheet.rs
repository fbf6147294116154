//! Answers as CSV (RFC 4180), safe to open in a spreadsheet.
//!
//! A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@` as a formula, also when it is quoted. Names of
//! processes are chosen by strangers, so such a text gets an apostrophe in front; numbers are ours and stay
//! numbers, also negative ones. Control characters are escaped as on the terminal, so that a row is a line.
//! Who needs the exact text takes `--json`.

use std::io::{self, Write};

use procscope_startup::no_formula;

use crate::{
    data::{Answer, Record, Value},
    text,
};

/// Writes a line of names, then one line a row: start and end first, then the row, then what else is said of
/// all rows.
pub(crate) fn write(answer: &Answer, out: impl Write) -> io::Result<()> {
    let mut writer = ::csv::WriterBuilder::new()
        .terminator(::csv::Terminator::CRLF)
        .quote_style(::csv::QuoteStyle::Necessary)
        .from_writer(out);
    let mut names = Vec::new();
    let (before, after): (Record, Record) = answer
        .head
        .iter()
        .cloned()
        .partition(|(name, _)| matches!(*name, "start" | "end"));
    for record in [&before, &answer.blank, &after] {
        names.extend(flatten(record).into_iter().map(|(name, _)| name));
    }
    writer.write_record(&names)?;
    for row in &answer.rows {
        let cells = [&before, row, &after]
            .into_iter()
            .flat_map(flatten)
            .map(|(_, cell)| cell);
        writer.write_record(cells)?;
    }
    writer.flush()
}

/// Objects within a record become columns of their own, named `outer_inner`.
fn flatten(record: &Record) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (name, value) in record {
        match value {
            Value::Object(inner) => {
                out.extend(
                    flatten(inner)
                        .into_iter()
                        .map(|(inner, cell)| (format!("{name}_{inner}"), cell)),
                );
            }
            other => out.push(((*name).to_owned(), cell(other))),
        }
    }
    out
}

fn cell(value: &Value) -> String {
    match value {
        Value::Text(text) => no_formula(text::safe(text)),
        Value::List(_) | Value::Object(_) => no_formula(words(value)),
        other => words(other),
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Signed(value) => value.to_string(),
        Value::Float(value) if !value.is_finite() => String::new(),
        Value::Float(value) => value.to_string(),
        Value::Text(value) => text::safe(value),
        Value::Time(value) => value.to_string(),
        Value::List(values) => values.iter().map(words).collect::<Vec<_>>().join(";"),
        // A counted loss: `reason=count`; a program: `name=runs=run_ns`.
        Value::Object(record) => record
            .iter()
            .map(|(_, value)| words(value))
            .collect::<Vec<_>>()
            .join("="),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(rows: Vec<Record>) -> String {
        let answer = Answer {
            head: vec![
                ("start", Value::Null),
                ("coverage", Value::Object(vec![("share", Value::Float(1.0))])),
            ],
            rows_name: "rows",
            rows,
            blank: vec![("name", Value::Null), ("residual", Value::Null)],
        };
        let mut out = Vec::new();
        write(&answer, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn row(name: &str, residual: i64) -> Record {
        vec![("name", name.into()), ("residual", residual.into())]
    }

    fn check(name: &str, line: &str) {
        let expected = format!("start,name,residual,coverage_share\r\n,{line},-5,1\r\n");
        assert_eq!(written(vec![row(name, -5)]), expected);
    }

    #[test]
    fn what_needs_quotes_gets_them() {
        check("nginx", "nginx");
        check("a,b", "\"a,b\"");
        check("say \"hi\"", "\"say \"\"hi\"\"\"");
    }

    #[test]
    fn a_formula_is_no_formula_any_more_and_a_negative_number_stays_one() {
        check("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0");
        check("-bash", "'-bash");
        check("@SUM(A1)", "'@SUM(A1)");
        check(" +1", "' +1");
    }

    #[test]
    fn a_control_character_does_not_reach_the_terminal() {
        check("a\x1b[31m\nb", "a\\x1b[31m\\x0ab");
    }

    #[test]
    fn without_rows_the_columns_are_still_named() {
        assert_eq!(written(Vec::new()), "start,name,residual,coverage_share\r\n");
    }

    proptest! {
        #[test]
        fn every_row_is_one_line_with_as_many_cells_as_names(name in any::<String>(), residual in any::<i64>()) {
            let text = written(vec![row(&name, residual)]);
            prop_assert_eq!(text.matches("\r\n").count(), 2);
            let mut reader = ::csv::Reader::from_reader(text.as_bytes());
            let record = reader.records().next().unwrap().unwrap();
            prop_assert_eq!(record.len(), 4);
            prop_assert_eq!(record[2].parse::<i64>().unwrap(), residual);
            prop_assert!(!record[1].starts_with(['=', '+', '-', '@', '\t', '\r']));
        }
    }
}
