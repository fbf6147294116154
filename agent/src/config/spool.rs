//! What the spool may hold: options, keys of the table `[spool]`, and their bounds.

use std::{ops::RangeInclusive, time::Duration};

use clap::Args;
use procscope_startup::{Failure, Result, format_duration, parse_duration};
use serde::Deserialize;

use crate::spool::{Limits, Sync};

/// Less holds no outage, more is no spool.
const SPOOL_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Collectors keep what is measured for days: what comes later finds no room.
const SPOOL_AGE: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24 * 30);
/// How long snapshots may wait for the disk.
const SPOOL_SYNC: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// Options of the spool.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_field_names, reason = "options have one name space")]
pub struct SpoolArgs {
    /// Bytes that the spool of snapshots in the state folder may take, 1MiB to 1TiB; 0: no spool [default: 1GiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "PROCSCOPE_AGENT_SPOOL_MAX_BYTES")]
    pub spool_max_bytes: Option<u64>,
    /// Age at which snapshots leave the spool, sent or not, 1m to 30d [default: 48h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, env = "PROCSCOPE_AGENT_SPOOL_MAX_AGE")]
    pub spool_max_age: Option<Duration>,
    /// When snapshots are made safe from a power cut: `each`, or when not stored after so long [default: 5s]
    #[arg(long, value_name = "each|DURATION", value_parser = parse_sync, env = "PROCSCOPE_AGENT_SPOOL_SYNC")]
    pub spool_sync: Option<Sync>,
}

/// The keys of the table `[spool]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpoolKeys {
    max_bytes: Option<Bytes>,
    max_age: Option<String>,
    sync: Option<String>,
}

/// A number, or text with a unit.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Number(u64),
    Text(String),
}

/// What the spool may hold; `None`: there is none.
pub(super) fn limits(args: &SpoolArgs, file: &SpoolKeys) -> Result<Option<Limits>> {
    let bad = |key: &str, why: String| Failure::usage(format_args!("key `spool.{key}`: {why}"));
    let bytes_max = match (args.spool_max_bytes, &file.max_bytes) {
        (Some(bytes), _) => bytes,
        (None, Some(Bytes::Number(bytes))) => *bytes,
        (None, Some(Bytes::Text(text))) => parse_bytes(text).map_err(|why| bad("max_bytes", why))?,
        (None, None) => 1 << 30,
    };
    let age_max = match (args.spool_max_age, &file.max_age) {
        (Some(age), _) => age,
        (None, Some(text)) => parse_duration(text).map_err(|why| bad("max_age", why))?,
        (None, None) => Duration::from_hours(48),
    };
    let sync = match (args.spool_sync, &file.sync) {
        (Some(sync), _) => sync,
        (None, Some(text)) => parse_sync(text).map_err(|why| bad("sync", why))?,
        (None, None) => Sync::After(Duration::from_secs(5)),
    };
    if bytes_max == 0 {
        return Ok(None);
    }
    if !SPOOL_BYTES.contains(&bytes_max) {
        return Err(Failure::usage(format_args!(
            "{bytes_max} bytes are out of range for a spool: choose from 1MiB to 1TiB, or 0 for none \
             (--spool-max-bytes)"
        )));
    }
    if !SPOOL_AGE.contains(&age_max) {
        return Err(Failure::usage(format_args!(
            "an age of {} is out of range for a spool: choose from 1m to 30d (--spool-max-age)",
            format_duration(age_max)
        )));
    }
    Ok(Some(Limits {
        bytes_max,
        age_max,
        sync,
    }))
}

/// Reads a whole number of bytes, with or without one of the units KiB, MiB, GiB, TiB.
fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let wrong = || {
        format!("`{text}` is no number of bytes: write a whole number, with KiB, MiB, GiB or TiB if you like")
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_parse_error| wrong())?;
    let unit: u64 = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Reads `each`, or how long a snapshot may wait for the disk.
fn parse_sync(text: &str) -> std::result::Result<Sync, String> {
    if text == "each" {
        return Ok(Sync::Each);
    }
    match parse_duration(text) {
        Ok(delay) if SPOOL_SYNC.contains(&delay) => Ok(Sync::After(delay)),
        _ => Err(format!("`{text}` is none of: each, or a duration from 1s to 1h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spool_holds_what_is_said_and_a_gibibyte_for_two_days_when_nothing_is() {
        let check = |file: &str, bytes: Option<u64>| {
            let args = SpoolArgs {
                spool_max_bytes: bytes,
                ..SpoolArgs::default()
            };
            let file: SpoolKeys = toml::from_str(file).unwrap();
            limits(&args, &file).map(|limits| limits.map(|l| (l.bytes_max, l.age_max.as_secs(), l.sync)))
        };
        let default = Sync::After(Duration::from_secs(5));
        assert_eq!(check("", None).unwrap(), Some((1 << 30, 172_800, default)));
        assert_eq!(check("", Some(0)).unwrap(), None);
        let file = "max_bytes = \"64MiB\"\nmax_age = \"1h\"\nsync = \"each\"";
        assert_eq!(check(file, None).unwrap(), Some((64 << 20, 3_600, Sync::Each)));
        assert_eq!(check(file, Some(1 << 21)).unwrap().unwrap().0, 1 << 21);
        assert_eq!(check("max_bytes = 2097152", None).unwrap().unwrap().0, 1 << 21);
        for file in [
            "max_bytes = 1000",
            "max_bytes = \"2TiB\"",
            "max_bytes = \"1GB\"",
            "max_age = \"1s\"",
            "max_age = \"1y\"",
            "sync = \"never\"",
            "sync = \"10ms\"",
        ] {
            let failure = check(file, None).unwrap_err();
            assert!(
                failure.code() == 2 && failure.to_string().contains("spool"),
                "{failure}"
            );
        }
    }
}
