//! Instants and ranges: what people write, what the wire carries, what is shown. Pure.

use jiff::{SignedDuration, Timestamp};
use procscope_proto::v1::TimeRange;

/// An instant that somebody wrote: absolute, or so long before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// RFC 3339 or unix seconds.
    At(Timestamp),
    /// A duration back from now.
    Ago(std::time::Duration),
}

impl When {
    /// Reads `10m`, `2026-01-31T12:00:00Z` or unix seconds. Fits clap's `value_parser`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse::<i64>() {
            return Timestamp::from_second(seconds)
                .map(Self::At)
                .map_err(|_range_error| format!("`{text}` is beyond the calendar"));
        }
        if let Ok(duration) = procscope_startup::parse_duration(text) {
            return Ok(Self::Ago(duration));
        }
        text.parse::<Timestamp>().map(Self::At).map_err(|_parse_error| {
            format!(
                "`{text}` is no instant: write a duration back from now such as 10m, \
                 RFC 3339 such as 2026-01-31T12:00:00Z, or unix seconds"
            )
        })
    }

    fn instant(self, now: Timestamp) -> Result<Timestamp, String> {
        match self {
            Self::At(instant) => Ok(instant),
            Self::Ago(duration) => SignedDuration::try_from(duration)
                .and_then(|duration| now.checked_sub(duration))
                .map_err(|_range_error| "a time lies before the beginning of the calendar".to_owned()),
        }
    }
}

/// The half-open range [since, until). An end that nobody wrote is left to the collector, which knows the newest
/// complete interval; so is a begin, which then lies as far back as it does by default.
pub(crate) fn range(
    since: Option<When>,
    until: Option<When>,
    now: Timestamp,
) -> Result<Option<TimeRange>, String> {
    let start = since.map(|since| since.instant(now)).transpose()?;
    let end = until.map(|until| until.instant(now)).transpose()?;
    let last = end.unwrap_or(now);
    if let Some(start) = start.filter(|start| *start >= last) {
        return Err(format!(
            "the range ends at {last}, not after its begin at {start}: put --since before --until"
        ));
    }
    Ok((start.is_some() || end.is_some()).then(|| TimeRange {
        start: start.map(to_wire),
        end: end.map(to_wire),
    }))
}

/// An instant for the wire.
pub(crate) fn to_wire(instant: Timestamp) -> prost_types::Timestamp {
    let (mut seconds, mut nanos) = (instant.as_second(), instant.subsec_nanosecond());
    if nanos < 0 {
        // Before 1970: the wire counts nanoseconds forward only.
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    prost_types::Timestamp { seconds, nanos }
}

/// An instant from the wire; `None` when it is absent or none.
pub(crate) fn from_wire(wire: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let wire = wire?;
    Timestamp::new(wire.seconds, wire.nanos).ok()
}

/// Start and end of a range from the wire.
pub(crate) fn ends(range: Option<&TimeRange>) -> (Option<Timestamp>, Option<Timestamp>) {
    range.map_or((None, None), |range| {
        (from_wire(range.start.as_ref()), from_wire(range.end.as_ref()))
    })
}

/// Nanoseconds from one instant to a later one; 0 when it is not later.
pub(crate) fn between_ns(earlier: Timestamp, later: Timestamp) -> u64 {
    u64::try_from(later.duration_since(earlier).as_nanos()).unwrap_or(0)
}

/// `2026-01-31 12:00:00 - 12:00:10 UTC`; the date of the end only when it is another one.
pub(crate) fn show_range(range: Option<&TimeRange>) -> String {
    let (Some(start), Some(end)) = ends(range) else {
        return "range unknown".to_owned();
    };
    let end_format = if day(start) == day(end) {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    format!(
        "{} - {} UTC",
        start.strftime("%Y-%m-%d %H:%M:%S"),
        end.strftime(end_format)
    )
}

/// `2026-01-31 12:00:00`, in UTC; with milliseconds when asked for.
pub(crate) fn show(instant: Option<Timestamp>, milliseconds: bool) -> String {
    let format = if milliseconds {
        "%Y-%m-%d %H:%M:%S%.3f"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    instant.map_or_else(|| "-".to_owned(), |instant| instant.strftime(format).to_string())
}

fn day(instant: Timestamp) -> String {
    instant.strftime("%F").to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    fn check(since: &str, until: &str, shown: &str) {
        let range = range(When::parse(since).ok(), When::parse(until).ok(), now()).unwrap();
        assert_eq!(show_range(range.as_ref()), shown);
    }

    #[test]
    fn all_three_ways_of_writing_an_instant_are_read() {
        check("10m", "0s", "2026-01-31 11:50:00 - 12:00:00 UTC");
        check("2026-01-31T10:00:00Z", "1h", "2026-01-31 10:00:00 - 11:00:00 UTC");
        check(
            "2026-01-31T12:00:00+02:00",
            "1769857260",
            "2026-01-31 10:00:00 - 11:01:00 UTC",
        );
        check("1d", "0s", "2026-01-30 12:00:00 - 2026-01-31 12:00:00 UTC");
    }

    #[test]
    fn a_range_that_is_none_is_refused_with_its_remedy() {
        for (since, until) in [("1h", "2h"), ("1h", "1h"), ("2026-02-01T00:00:00Z", "0s")] {
            let line = range(When::parse(since).ok(), When::parse(until).ok(), now()).unwrap_err();
            assert!(line.contains("--since before --until"), "{line}");
        }
        let open = range(None, When::parse("1h").ok(), now()).unwrap().unwrap();
        assert!(open.start.is_none() && open.end.is_some());
        assert_eq!(range(None, None, now()), Ok(None));
    }

    #[test]
    fn an_end_that_nobody_wrote_is_the_collectors_to_choose() {
        let open = range(When::parse("1h").ok(), None, now()).unwrap().unwrap();
        assert!(open.start.is_some() && open.end.is_none());
    }

    #[test]
    fn what_is_no_instant_is_refused_and_the_ways_are_named() {
        for text in [
            "",
            "yesterday",
            "10",
            "2026-01-31",
            "99999999999999",
            "1.5h",
            "106751991167300d",
        ] {
            let read = When::parse(text).and_then(|when| when.instant(now()));
            assert!(read.is_err() || text == "10", "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_instant_survives_the_wire(second in -377_705_023_201_i64..253_402_207_200, ns in 0_i32..1_000_000_000) {
            let instant = Timestamp::new(second, ns).unwrap();
            prop_assert_eq!(from_wire(Some(&to_wire(instant))), Some(instant));
        }

        #[test]
        fn no_wire_instant_is_a_panic(seconds in any::<i64>(), nanos in any::<i32>()) {
            let wire = prost_types::Timestamp { seconds, nanos };
            show(from_wire(Some(&wire)), true);
        }
    }
}
