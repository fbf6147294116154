//! Figures on their way into docs/accuracy.md: each test prints its own, and `cargo xtask accuracy` collects them.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::or_guest;

/// Names the file to which every figure is added, too.
pub const FIGURES: &str = "PROCSCOPE_ACCURACY_FIGURES";
/// Set: tests take their long form, minutes in place of seconds.
pub const LONG: &str = "PROCSCOPE_LONG";

/// What a cell may not hold: it divides the cells.
const TAB: &str = "\t";

/// Prints a figure, and keeps it for the table.
///
/// # Errors
/// When it cannot be kept.
pub fn figure(what: &str, against: &str, found: &str, bound: &str) -> Result<()> {
    let line = [what, against, found, bound].join(TAB);
    drop(writeln!(io::stdout().lock(), "{}", line.replace(TAB, " | ")));
    if let Some(path) = env::var_os(FIGURES) {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        writeln!(
            file.with_context(|| format!("open {}", path.display()))?,
            "{line}"
        )
        .with_context(|| format!("write to {}", path.display()))?;
    }
    Ok(())
}

/// How much wider bounds are in a guest: ends of threads after the kernel closed its books take ten times as long.
const GUEST_FACTOR: u64 = 2;

/// Prints how far `told` is from `truth`, and holds it against a bound in parts per million.
///
/// # Errors
/// When it is farther.
pub fn off_by_at_most(what: &str, against: &str, told: u64, truth: u64, bound_ppm: u64) -> Result<()> {
    let bound_ppm = bound_ppm * or_guest(1, GUEST_FACTOR);
    let off = ppm(told.abs_diff(truth), truth);
    let sign = if told < truth { "-" } else { "+" };
    figure(
        what,
        against,
        &format!("{sign}{} of {}", percent(off), milliseconds(truth)),
        &percent(bound_ppm),
    )?;
    ensure!(
        off <= bound_ppm,
        "{what}: {told} ns told, {truth} ns by {against}: {} off",
        percent(off)
    );
    Ok(())
}

/// Parts per million.
#[must_use]
pub fn ppm(part: u64, of: u64) -> u64 {
    let ppm = u128::from(part) * 1_000_000 / u128::from(of.max(1));
    u64::try_from(ppm).unwrap_or(u64::MAX)
}

/// Parts per million for people.
#[must_use]
pub fn percent(ppm: u64) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    format!("{short} %")
}

/// Nanoseconds for people.
#[must_use]
pub fn milliseconds(ns: u64) -> String {
    if ns < 10_000_000_000 {
        format!("{}.{:02} ms", ns / 1_000_000, ns % 1_000_000 / 10_000)
    } else {
        format!("{}.{:02} s", ns / 1_000_000_000, ns % 1_000_000_000 / 10_000_000)
    }
}

/// Whether tests take their long form.
#[must_use]
pub fn is_long() -> bool {
    env::var_os(LONG).is_some_and(|value| value != "0")
}

/// `short` seconds, and in the long form `long`.
#[must_use]
pub fn seconds(short: u64, long: u64) -> Duration {
    Duration::from_secs(if is_long() { long } else { short })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(percent(0), "0 %");
        assert_eq!(percent(1_000), "0.1 %");
        assert_eq!(percent(12_345), "1.2345 %");
        assert_eq!(milliseconds(1_234_567), "1.23 ms");
        assert_eq!(milliseconds(12_340_000_000), "12.34 s");
        assert_eq!(ppm(1, 1_000), 1_000);
    }
}
