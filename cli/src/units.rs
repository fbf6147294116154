//! Nanoseconds, bytes and shares as people read them; pure. Widths stay small so that columns stay narrow.

/// A duration: `0`, `870 ns`, `12.3 us`, `4.57 ms`, `7.89 s`, `12m05s`, `3h07m`, `2d04h`.
pub(crate) fn duration(ns: u64) -> String {
    let s = ns.saturating_add(500_000_000) / 1_000_000_000;
    match ns {
        0 => "0".to_owned(),
        1..1_000 => format!("{ns} ns"),
        // What would round to a thousand is one of the next unit.
        1_000..999_500 => three_digits(ns, 1_000, "us"),
        999_500..999_500_000 => three_digits(ns, 1_000_000, "ms"),
        999_500_000..59_950_000_000 => three_digits(ns, 1_000_000_000, "s"),
        _ if s < 3_600 => format!("{}m{:02}s", s / 60, s % 60),
        _ if s < 86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// A duration that may be negative.
pub(crate) fn signed_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    format!("{sign}{}", duration(ns.unsigned_abs()))
}

/// A duration that arrives as seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    nanoseconds(seconds).map_or_else(|| "-".to_owned(), duration)
}

/// Seconds as whole nanoseconds; `None` for what is no length of time.
pub(crate) fn nanoseconds(seconds: f64) -> Option<u64> {
    let length = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(length.as_nanos()).ok()
}

/// A size: `0`, `512 B`, `4.00 KiB`, `12.3 MiB`, `1.50 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 6] = [
        (60, "EiB"),
        (50, "PiB"),
        (40, "TiB"),
        (30, "GiB"),
        (20, "MiB"),
        (10, "KiB"),
    ];
    if bytes == 0 {
        return "0".to_owned();
    }
    for (shift, unit) in UNITS {
        if bytes >> shift > 0 {
            return three_digits(bytes, 1 << shift, unit);
        }
    }
    format!("{bytes} B")
}

/// A size that arrives in MiB.
pub(crate) fn mebibytes(mib: f64) -> String {
    const UNITS: [(f64, &str); 4] = [
        (1_048_576.0, "TiB"),
        (1_024.0, "GiB"),
        (1.0, "MiB"),
        (1.0 / 1_024.0, "KiB"),
    ];
    if !mib.is_finite() || mib < 0.0 {
        return "-".to_owned();
    }
    for (unit, name) in UNITS {
        match mib / unit {
            v if v >= 99.95 => return format!("{v:.0} {name}"),
            v if v >= 9.995 => return format!("{v:.1} {name}"),
            v if v >= 1.0 => return format!("{v:.2} {name}"),
            _ => {}
        }
    }
    if mib == 0.0 {
        "0".to_owned()
    } else {
        format!("{:.0} B", mib * 1_048_576.0)
    }
}

/// A percentage with one decimal below 1000: `0.0`, `12.3`, `1600`. A value that is above zero and would read
/// as zero is `<0.1`.
pub(crate) fn percent(percent: f64) -> String {
    match percent {
        p if !p.is_finite() => "-".to_owned(),
        p if p > 0.0 && p < 0.05 => "<0.1".to_owned(),
        p if p < 0.0 && p > -0.05 => ">-0.1".to_owned(),
        p if p.abs() >= 999.95 => format!("{p:.0}"),
        p => format!("{p:.1}"),
    }
}

/// A share of 0 to 1 as a percentage that says 100 only when nothing is missing.
pub(crate) fn share(share: f64) -> String {
    match share {
        s if !s.is_finite() => "unknown".to_owned(),
        s if s >= 1.0 => "100 %".to_owned(),
        s => format!("{:.1} %", (s * 1_000.0).floor() / 10.0),
    }
}

/// A count, with commas between the thousands.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A mean number: whole ones without a decimal.
pub(crate) fn mean(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0")
        .map_or_else(|| text.clone(), str::to_owned)
}

/// `value / unit`, rounded to three digits.
fn three_digits(value: u64, unit: u64, name: &str) -> String {
    let rounded = |parts: u128| (u128::from(value) * parts + u128::from(unit) / 2) / u128::from(unit);
    let (hundredths, tenths) = (rounded(100), rounded(10));
    if hundredths < 1_000 {
        format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
    } else if tenths < 1_000 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", rounded(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (ns, text) in [
            (0, "0"),
            (870, "870 ns"),
            (12_345, "12.3 us"),
            (4_567_000, "4.57 ms"),
            (999_400_000, "999 ms"),
            (999_999_999, "1.00 s"),
            (19_999_991_764, "20.0 s"),
            (1_000_000_000, "1.00 s"),
            (59_900_000_000, "59.9 s"),
            (59_990_000_000, "1m00s"),
            (999_600, "1.00 ms"),
            (725_000_000_000, "12m05s"),
            (11_220_000_000_000, "3h07m"),
            (187_200_000_000_000, "2d04h"),
        ] {
            assert_eq!(duration(ns), text);
        }
        assert_eq!(signed_duration(-12_345), "-12.3 us");
        assert_eq!(seconds(0.005), "5.00 ms");
        assert_eq!(seconds(f64::NAN), "-");
    }

    #[test]
    fn sizes_are_powers_of_two() {
        for (size, text) in [
            (0, "0"),
            (512, "512 B"),
            (4096, "4.00 KiB"),
            (12_900_000, "12.3 MiB"),
            (3 << 29, "1.50 GiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(bytes((1 << 20) - 1), "1024 KiB");
        assert_eq!(mebibytes(12.5), "12.5 MiB");
        assert_eq!(mebibytes(1536.0), "1.50 GiB");
        assert_eq!(mebibytes(-1.0), "-");
    }

    #[test]
    fn a_little_is_not_nothing_and_almost_all_is_not_all() {
        assert_eq!(percent(0.0), "0.0");
        assert_eq!(percent(0.01), "<0.1");
        assert_eq!(percent(-0.01), ">-0.1");
        assert_eq!(percent(1599.7), "1600");
        assert_eq!(share(0.99999), "99.9 %");
        assert_eq!(share(1.0), "100 %");
        assert_eq!(share(0.0), "0.0 %");
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!((mean(3.0), mean(0.25)), ("3".to_owned(), "0.2".to_owned()));
    }

    proptest! {
        #[test]
        fn no_duration_or_size_is_wide(n in any::<u64>()) {
            prop_assert!(duration(n).len() <= 10);
            prop_assert!(bytes(n).len() <= 8);
        }
    }
}
