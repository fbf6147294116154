//! What other programs have used, and the time.

use std::fs;

use anyhow::{Context as _, Result};

use crate::report::float;

/// Seconds of CPU time that a process has used, all threads and those that ended.
///
/// # Errors
/// When it is gone.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("read the clock of process {pid}"))?;
    // The name stands in parentheses and may hold blanks.
    let (_name, rest) = stat.rsplit_once(") ").context("read /proc/PID/stat")?;
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(float(ticks) / float(rustix::param::clock_ticks_per_second()))
}

/// The greatest resident set of a process, MiB.
///
/// # Errors
/// When it is gone.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("read the memory of process {pid}"))?;
    let mut lines = status.lines().filter_map(|line| line.strip_prefix("VmHWM:"));
    let line = lines.next().context("find VmHWM")?;
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .context("read VmHWM")?;
    Ok(float(kib) / 1024.0)
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u32 {
    u32::try_from(procscope_tests_e2e::now_ms() / 1000).unwrap_or(u32::MAX)
}
