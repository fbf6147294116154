//! Parameters of questions: one table each, from which both the check and the `OpenAPI` document are made.

mod tables;

use std::{collections::BTreeMap, marker::PhantomData, time::Duration};

use axum::{extract::FromRequestParts, http::request::Parts};
use procscope_startup::parse_duration;
use utoipa::openapi::{
    ObjectBuilder, RefOr, Required, Schema,
    path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle},
    schema::{ArrayBuilder, Type},
};

use crate::{
    api::problem::{FieldError, Problem},
    query::{AskedRange, limits},
};

pub(crate) use tables::{
    AuditParams, ExitsParams, ExportParams, GroupsParams, HistoryParams, HostsParams, LiveParams, TopParams,
};

/// A parameter of a query string.
#[derive(Debug)]
pub(crate) struct Param {
    name: &'static str,
    kind: Kind,
    says: &'static str,
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Any text of some length.
    Text,
    /// The same, as often as one likes; a second name of the first parameter here.
    Texts { of: &'static str },
    /// A whole number.
    Integer {
        min: u32,
        max: u32,
        default: Option<u32>,
    },
    /// One of some words; the first is the default.
    Word(&'static [&'static str]),
    /// RFC 3339 or seconds since 1970.
    Time,
    /// As `30s`.
    Duration,
    /// `true` or `false`.
    Flag,
}

/// What was given for it.
#[derive(Debug)]
enum Value {
    Text(String),
    Integer(u32),
    Word(&'static str),
    TimeMs(i64),
    Duration(Duration),
    Flag(bool),
}

const fn param(name: &'static str, kind: Kind, says: &'static str) -> Param {
    Param { name, kind, says }
}

/// A question with its parameters.
pub(crate) trait Question {
    /// The table.
    const PARAMS: &'static [Param];
}

impl Param {
    fn described(&self) -> Parameter {
        let schema = match self.kind {
            Kind::Texts { .. } => RefOr::T(Schema::Array(ArrayBuilder::new().items(text()).build())),
            Kind::Text => text().into(),
            Kind::Integer { min, max, default } => ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(min))
                .maximum(Some(max))
                .default(default.map(Into::into))
                .into(),
            Kind::Word(words) => ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(words.iter().copied()))
                .default(words.first().map(|word| (*word).into()))
                .into(),
            Kind::Time => pattern(
                r"^(\d{1,10}(\.\d{1,9})?|\d{4}-\d{2}-\d{2}[Tt].+)$",
                "2026-01-31T12:00:00Z",
            ),
            Kind::Duration => pattern(r"^[0-9]{1,15}(ms|s|m|h|d)$", "30s"),
            Kind::Flag => ObjectBuilder::new().schema_type(Type::Boolean).into(),
        };
        let repeated = matches!(self.kind, Kind::Texts { .. });
        ParameterBuilder::new()
            .name(self.name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(self.says))
            .style(repeated.then_some(ParameterStyle::Form))
            .explode(repeated.then_some(true))
            .schema(Some(schema))
            .build()
    }

    fn read(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Text | Kind::Texts { .. } if text.len() > limits::TEXT_BYTES_MAX => {
                let (bytes, max) = (text.len(), limits::TEXT_BYTES_MAX);
                Err(format!("has {bytes} bytes, more than {max}"))
            }
            Kind::Text | Kind::Texts { .. } => Ok(Value::Text(text.to_owned())),
            Kind::Integer { min, max, .. } => {
                let number = text.parse().ok().filter(|number| (min..=max).contains(number));
                let wrong = || format!("`{}` is no whole number within {min} and {max}", begin(text));
                number.map(Value::Integer).ok_or_else(wrong)
            }
            Kind::Word(words) => {
                let word = words.iter().find(|word| **word == text);
                let wrong = || format!("`{}` is none of {}", begin(text), words.join(", "));
                word.map(|word| Value::Word(word)).ok_or_else(wrong)
            }
            Kind::Time => time_ms(text).map(Value::TimeMs).ok_or_else(|| {
                format!(
                    "`{}` is no time from 1970 to 9999-12-30: write RFC 3339, such as 2026-01-31T12:00:00Z, or \
                     seconds since 1970",
                    begin(text)
                )
            }),
            Kind::Duration => parse_duration(text).map(Value::Duration),
            Kind::Flag => match text {
                "true" => Ok(Value::Flag(true)),
                "false" => Ok(Value::Flag(false)),
                _ => Err(format!("`{}` is neither true nor false", begin(text))),
            },
        }
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(limits::TEXT_BYTES_MAX))
}

fn pattern(pattern: &str, example: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .examples([example])
        .into()
}

/// The first of a text that a stranger chose, to be told back.
fn begin(text: &str) -> String {
    text.chars().take(100).collect()
}

/// RFC 3339 or seconds since 1970, in milliseconds, towards the past.
fn time_ms(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.len() > 12 || fraction.len() > 9 || !digits(seconds) || !digits(fraction) {
        return None;
    }
    // No digits at all are no number.
    let seconds: i64 = seconds.parse().ok()?;
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(seconds * 1_000 + ms)
}

/// The parameters of a request, checked against the table of a question.
#[derive(Debug)]
pub(crate) struct Asked<Q> {
    given: Given,
    question: PhantomData<Q>,
}

/// The same without the question's type.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: BTreeMap<&'static str, Vec<Value>>,
}

impl<Q> std::ops::Deref for Asked<Q> {
    type Target = Given;

    fn deref(&self) -> &Given {
        &self.given
    }
}

impl<S: Sync, Q: Question> FromRequestParts<S> for Asked<Q> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Ok(Self {
            given: Given::parse(parts.uri.query().unwrap_or(""), Q::PARAMS)?,
            question: PhantomData,
        })
    }
}

impl Given {
    /// Reads a query string. All that is wrong with it is told at once.
    fn parse(query: &str, params: &'static [Param]) -> Result<Self, Problem> {
        let mut given = Self::default();
        let mut errors = Vec::new();
        for (name, text) in form_urlencoded::parse(query.as_bytes()) {
            let read = match params.iter().find(|param| param.name == name) {
                None => {
                    let known: Vec<_> = params.iter().map(|param| param.name).collect();
                    Err(format!("is no parameter here; there are {}", known.join(", ")))
                }
                Some(param) => param.read(&text).and_then(|value| given.add(param, value)),
            };
            if let Err(detail) = read {
                let field = begin(&name);
                errors.push(FieldError { field, detail });
            }
        }
        if given.values.contains_key("hours")
            && (given.values.contains_key("start") || given.values.contains_key("end"))
        {
            errors.push(FieldError {
                field: "hours".to_owned(),
                detail: "says the range, and so do start and end: take one of them".to_owned(),
            });
        }
        if errors.is_empty() {
            Ok(given)
        } else {
            Err(Problem::fields(errors))
        }
    }

    fn add(&mut self, param: &Param, value: Value) -> Result<(), String> {
        if let Kind::Texts { of } = param.kind {
            let texts = self.values.entry(of).or_default();
            if texts.len() >= limits::HOSTS_MAX {
                return Err(format!("is given more than {} times", limits::HOSTS_MAX));
            }
            texts.push(value);
            return Ok(());
        }
        match self.values.insert(param.name, vec![value]) {
            None => Ok(()),
            Some(_before) => Err("is given twice".to_owned()),
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)?.first()
    }

    /// A text; empty when it was not given.
    pub(crate) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// All texts of a name.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let values = self.values.get(name).into_iter().flatten();
        values
            .filter_map(|value| match value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    /// A number; 0, which is none of them, when it was not given.
    pub(crate) fn integer(&self, name: &str) -> u32 {
        match self.value(name) {
            Some(Value::Integer(number)) => *number,
            _ => 0,
        }
    }

    /// A word; empty when it was not given.
    pub(crate) fn word(&self, name: &str) -> &'static str {
        match self.value(name) {
            Some(Value::Word(word)) => word,
            _ => "",
        }
    }

    /// A duration; zero when it was not given.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Duration(duration)) => *duration,
            _ => Duration::ZERO,
        }
    }

    /// A flag; false when it was not given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }

    /// Whether it was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The hours that were asked for.
    pub(crate) fn hours(&self) -> Option<u32> {
        Some(self.integer("hours")).filter(|hours| *hours > 0)
    }

    /// The range. `hours` end, as every range without an end, with the newest complete interval.
    pub(crate) fn range(&self) -> AskedRange {
        let side = |name| match self.value(name) {
            Some(Value::TimeMs(ms)) => Some(*ms),
            _ => None,
        };
        AskedRange {
            start_ms: side("start"),
            end_ms: side("end"),
            last_ms: self.hours().map(|hours| i64::from(hours) * limits::HOUR_MS),
        }
    }

    /// Those of a table of parameters that were given and are not in another.
    pub(crate) fn not_in(&self, params: &'static [Param], beside: &[&str]) -> Vec<&'static str> {
        let names = self.values.keys().copied();
        names
            .filter(|name| !beside.contains(name) && params.iter().all(|param| param.name != *name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(query: &str) -> String {
        let problem = Given::parse(query, TopParams::PARAMS).unwrap_err();
        serde_json::to_value(&problem).unwrap()["detail"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn names_aliases_and_times_are_understood() {
        let query =
            "host=a&server_ids[]=b&server_ids%5B%5D=c&metric=io&limit=7&start=1.5&end=1970-01-01T00:00:09Z";
        let given = Given::parse(query, TopParams::PARAMS).unwrap();
        assert_eq!(given.texts("host"), ["a", "b", "c"]);
        assert_eq!((given.word("metric"), given.integer("limit")), ("io", 7));
        let range = AskedRange {
            start_ms: Some(1_500),
            end_ms: Some(9_000),
            last_ms: None,
        };
        assert_eq!(given.range(), range);
    }

    #[test]
    fn each_wrong_parameter_is_named() {
        for (query, says) in [
            ("frob=1", "frob: is no parameter here"),
            ("limit=0", "limit: `0` is no whole number within 1 and 1000"),
            ("limit=1001", "limit: "),
            ("limit=", "limit: "),
            ("limit=1&limit=2", "limit: is given twice"),
            ("hours=169", "hours: "),
            ("hours=1&start=5", "hours: says the range"),
            ("metric=cups", "metric: `cups` is none of cpu, memory"),
            ("start=yesterday", "start: `yesterday` is no time"),
            ("start=-5", "start: "),
        ] {
            assert!(refused(query).starts_with(says), "{query}: {}", refused(query));
        }
        let both = refused("limit=x&frob=1");
        assert!(both.contains("limit: ") && both.contains("; frob: "), "{both}");
    }

    #[test]
    fn a_time_is_seconds_or_rfc_3339() {
        for (text, ms) in [
            ("0", Some(0)),
            ("1700000000", Some(1_700_000_000_000)),
            ("1.0019", Some(1_001)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("", None),
            ("1e9", None),
            ("9999999999999", None),
        ] {
            assert_eq!(time_ms(text), ms, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_query_string_whatever_breaks_the_table(query in ".{0,200}") {
            drop(Given::parse(&query, ExportParams::PARAMS));
        }
    }
}
