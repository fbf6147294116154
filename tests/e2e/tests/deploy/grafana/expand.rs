//! What Grafana and its plugin make of a query: variables in the browser, macros on the server.

use std::{collections::BTreeMap, sync::OnceLock};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Part of the range in which our host was silent, in tenths of it.
const SILENT_TENTHS: std::ops::Range<i64> = 4..6;

/// A range that is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub start: i64,
    seconds: i64,
    /// What `$__interval_s` is.
    step_s: i64,
}

impl Range {
    /// One that is answered from samples. Fresh enough to be kept by every table, and round, so that buckets are
    /// whole.
    pub(super) fn samples() -> Self {
        static START: OnceLock<i64> = OnceLock::new();
        let start = *START.get_or_init(|| (Timestamp::now().as_second() / 3_600 - 2) * 3_600);
        Self {
            start,
            seconds: 600,
            step_s: 2,
        }
    }

    /// One that is answered from minutes, long before the other.
    pub(super) fn minutes() -> Self {
        Self {
            start: Self::samples().start - 10 * 3_600,
            seconds: 8 * 3_600,
            step_s: 120,
        }
    }

    pub(super) fn seconds(self) -> i64 {
        self.seconds
    }

    /// Seconds of the range in which the host was seen.
    pub(super) fn seen_s(self) -> f64 {
        let silent = self.seconds / 10 * (SILENT_TENTHS.end - SILENT_TENTHS.start);
        f64::from(i32::try_from(self.seconds - silent).unwrap())
    }

    pub(super) fn coverage(self) -> f64 {
        self.seen_s() / f64::from(i32::try_from(self.seconds).unwrap())
    }

    /// One loss a minute.
    pub(super) fn lost(self) -> f64 {
        self.seen_s() / 60.0
    }

    /// Seconds of silence, after the start.
    pub(super) fn silence(self) -> std::ops::Range<i64> {
        self.seconds / 10 * SILENT_TENTHS.start..self.seconds / 10 * SILENT_TENTHS.end
    }

    /// Whether a point there can know nothing.
    pub(super) fn is_silent(self, second: i64) -> bool {
        let silence = self.silence();
        (silence.start + self.step_s..silence.end - self.step_s).contains(&second)
    }

    /// Seconds after the start, of a time as the engine prints it.
    pub(super) fn second(self, time: &str) -> i64 {
        let time: DateTime = time.replace(' ', "T").parse().unwrap();
        time.to_zoned(TimeZone::UTC).unwrap().timestamp().as_second() - self.start
    }
}

/// The values of a dashboard's variables.
pub(super) struct Variables {
    range: Range,
    values: BTreeMap<String, Vec<String>>,
}

impl Variables {
    pub(super) fn new(range: Range) -> Self {
        Self {
            range,
            values: BTreeMap::new(),
        }
    }

    /// Values as the engine printed them.
    pub(super) fn set(&mut self, name: &str, values: &[&str]) {
        let values = values.iter().map(|value| value.replace("\\'", "'")).collect();
        self.values.insert(name.to_owned(), values);
    }

    /// Expands variables as Grafana does and macros as the plugin does.
    pub(super) fn expand(&self, sql: &str) -> String {
        let (start, end) = (self.range.start, self.range.start + self.range.seconds);
        let mut sql = sql.to_owned();
        for (name, values) in &self.values {
            let quoted: Vec<String> = values
                .iter()
                .map(|value| format!("'{}'", value.replace('\'', "''")))
                .collect();
            let quoted = if quoted.is_empty() {
                "''".to_owned()
            } else {
                quoted.join(",")
            };
            sql = sql
                .replace(&format!("${{{name}:sqlstring}}"), &quoted)
                .replace(&format!("${{{name}:raw}}"), &values.join(","));
        }
        sql = sql
            .replace("$__interval_s", &self.range.step_s.to_string())
            .replace("$__fromTime", &format!("toDateTime({start})"))
            .replace("$__toTime", &format!("toDateTime({end})"));
        while let Some(at) = sql.find("$__timeFilter(") {
            let close = at + sql[at..].find(')').unwrap();
            let column = &sql[at + "$__timeFilter(".len()..close];
            let filter = format!("{column} >= toDateTime({start}) AND {column} <= toDateTime({end})");
            sql.replace_range(at..=close, &filter);
        }
        assert!(
            !sql.contains('$'),
            "a variable or macro that this test does not know: {sql}"
        );
        sql
    }
}
