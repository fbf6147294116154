//! An answer as data: named fields in a fixed order, from which both JSON and CSV are made, so that neither
//! can say what the other does not. Names are those of the REST interface.

use jiff::Timestamp;
use serde::{
    Serialize,
    ser::{SerializeMap as _, Serializer},
};

/// One value. What is not known is `Null`, never 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    /// Not a number and infinities become null in JSON.
    Float(f64),
    Text(String),
    Time(Timestamp),
    List(Vec<Value>),
    Object(Record),
}

/// Fields with their names, in the order in which they are written.
pub(crate) type Record = Vec<(&'static str, Value)>;

/// A whole answer: what it covers, and its rows.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Range, coverage and what else concerns all rows.
    pub head: Record,
    /// Name of the rows in JSON.
    pub rows_name: &'static str,
    pub rows: Vec<Record>,
    /// A row of the same kind without content: names the columns of a CSV without rows.
    pub blank: Record,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Time(value) => serializer.collect_str(value),
            Self::List(values) => serializer.collect_seq(values),
            Self::Object(record) => Fields(record).serialize(serializer),
        }
    }
}

struct Fields<'a>(&'a Record);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.head.len() + 1))?;
        for (name, value) in &self.head {
            map.serialize_entry(name, value)?;
        }
        let rows: Vec<Fields<'_>> = self.rows.iter().map(Fields).collect();
        map.serialize_entry(self.rows_name, &rows)?;
        map.end()
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Unsigned(u64::from(value))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<&Vec<String>> for Value {
    fn from(values: &Vec<String>) -> Self {
        Self::List(values.iter().map(Self::from).collect())
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Time(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
