//! When two routes tell the same: what is known under a name, in whatever form its route writes it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;

/// What is known, by its name; a field within another is `outer_inner`.
pub(crate) type Fields = BTreeMap<String, Value>;

/// The fields of an object of which something is known. Instants have one written form.
pub(crate) fn flat(object: &Value) -> Fields {
    let mut fields = Fields::new();
    into(&mut fields, "", object);
    fields
}

fn into(fields: &mut Fields, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        Value::Array(values) if values.is_empty() => {}
        Value::Object(inner) => {
            for (key, value) in inner {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}_{key}")
                };
                into(fields, &name, value);
            }
        }
        value => {
            fields.insert(name.to_owned(), instant(value));
        }
    }
}

fn instant(value: &Value) -> Value {
    match value.as_str().map(str::parse::<jiff::Timestamp>) {
        Some(Ok(instant)) => Value::String(instant.to_string()),
        _ => value.clone(),
    }
}

/// The columns of a row, also those of which nothing is known.
pub(crate) fn columns(row: &Value) -> Fields {
    let columns = row.as_object().into_iter().flatten();
    columns.map(|(name, cell)| (name.clone(), cell.clone())).collect()
}

/// All fields of two rows.
pub(crate) fn same(expected: &Fields, row: &Fields) -> Result<()> {
    for (name, value) in expected {
        let known = row.get(name);
        ensure!(known == Some(value), "{name} is {known:?}, not {value}");
    }
    let more: Vec<_> = row.keys().filter(|name| !expected.contains_key(*name)).collect();
    ensure!(more.is_empty(), "nobody else tells {more:?}");
    Ok(())
}

/// Whether a cell of a table tells a value, doubles to the last bit.
pub(crate) fn told(expected: Option<&Value>, cell: &Value) -> bool {
    let Some(expected) = expected else {
        return matches!(cell, Value::Null) || *cell == "" || *cell == Value::Array(Vec::new());
    };
    match (expected, cell) {
        (Value::Number(_), Value::String(text)) => {
            serde_json::from_str(text).is_ok_and(|number: Value| same_number(expected, &number))
        }
        (Value::Number(_), cell) => same_number(expected, cell),
        (Value::Bool(yes), Value::Number(number)) => number.as_u64() == Some(u64::from(*yes)),
        (Value::Bool(yes), Value::String(text)) => *text == yes.to_string(),
        (Value::Array(_), Value::String(text)) => *text == words(expected),
        (Value::String(_), cell) => {
            let cell = instant(cell);
            cell == *expected || cell.as_str().and_then(|text| text.strip_prefix('\'')) == expected.as_str()
        }
        (expected, cell) => expected == cell,
    }
}

fn same_number(one: &Value, other: &Value) -> bool {
    // A double that is whole may be written as an integer.
    one == other
        || !(one.is_u64() && other.is_u64())
            && one
                .as_f64()
                .zip(other.as_f64())
                .is_some_and(|(one, other)| one.to_bits() == other.to_bits())
}

/// A list in one cell.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(";"),
        // A counted loss; a program.
        Value::Object(fields) => ["reason", "count", "name", "runs", "run_ns"]
            .iter()
            .filter_map(|name| fields.get(*name).map(words))
            .collect::<Vec<_>>()
            .join("="),
        value => value.to_string(),
    }
}
