//! Rows as CSV (RFC 4180), safe to open in a spreadsheet: the rules are those of `procscope … --csv`.
//!
//! A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@` as a formula, also when it is quoted. Names of
//! processes are chosen by strangers, so such a text gets an apostrophe in front; numbers are ours and stay numbers.
//! Lists are divided by `;`, the parts of what stands in them by `=`. What is not known is an empty cell.

use procscope_startup::no_formula;
use serde::Serialize;
use serde_json::{Map, Value};

/// A row with its names, in the order of its fields; objects within become fields of their own, `outer_inner`.
pub(super) type Record = Vec<(String, Value)>;

/// A row of an answer, with what covers it in front.
pub(super) fn record(range: &[(&str, String)], row: &impl Serialize) -> Record {
    let mut record: Record = range
        .iter()
        .map(|(name, text)| ((*name).to_owned(), Value::String(text.clone())))
        .collect();
    if let Ok(Value::Object(fields)) = serde_json::to_value(row) {
        flatten("", fields, &mut record);
    }
    record
}

fn flatten(outer: &str, fields: Map<String, Value>, record: &mut Record) {
    for (name, value) in fields {
        let name = format!("{outer}{name}");
        match value {
            Value::Object(fields) => flatten(&format!("{name}_"), fields, record),
            value => record.push((name, value)),
        }
    }
}

/// One line, with its end.
pub(super) fn line<T: AsRef<[u8]>>(cells: impl Iterator<Item = T>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Writing to a Vec does not fail, and one record has no other number of cells before it.
    let written = writer.write_record(cells);
    debug_assert!(written.is_ok());
    writer.into_inner().unwrap_or_default()
}

/// A value as a cell.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        value => no_formula(words(value)),
    }
}

/// A value as text; what is not known is empty.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.replace(char::is_control, " "),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(";"),
        Value::Object(fields) => fields.values().map(words).collect::<Vec<_>>().join("="),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use procscope_proto::v1;

    use super::*;

    #[test]
    fn a_name_is_no_formula_and_a_number_stays_one() {
        let row = v1::AuditRow {
            host: "=cmd|' /c calc'!A0, \"x\"".to_owned(),
            residual_ns: -5,
            losses: vec![v1::CoverageLoss {
                reason: "ring_full".to_owned(),
                count: 2,
            }],
            ..v1::AuditRow::default()
        };
        let record = record(&[("start", "1970-01-01T00:00:00Z".to_owned())], &row);
        let names: Vec<_> = record.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..4], ["start", "host", "cpus", "wall_ns"]);
        let line = line(record.iter().map(|(_, value)| cell(value)));
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.starts_with("1970-01-01T00:00:00Z,\"'=cmd|' /c calc'!A0, \"\"x\"\"\",0,"),
            "{line}"
        );
        assert!(
            line.contains(",-5,") && line.contains(",ring_full=2,") && line.ends_with("\r\n"),
            "{line}"
        );
    }
}
