//! What the machine says about itself in /proc and /sys: CPUs, time counters, memory, names.

use std::{collections::BTreeMap, fs, io, path::Path};

/// Time that the kernel accounts outside of tasks, summed over CPUs, in nanoseconds since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Idle, without iowait.
    pub idle_ns: u64,
    /// Idle while a task waited for a disk.
    pub iowait_ns: u64,
    /// Hard interrupts.
    pub irq_ns: u64,
    /// Soft interrupts.
    pub softirq_ns: u64,
    /// Taken by the hypervisor.
    pub steal_ns: u64,
}

/// Reads the first line of /proc/stat.
#[must_use]
pub fn cpu_times() -> Option<CpuTimes> {
    parse_cpu_times(
        &fs::read_to_string("/proc/stat").ok()?,
        rustix::param::clock_ticks_per_second(),
    )
}

fn parse_cpu_times(text: &str, ticks_per_second: u64) -> Option<CpuTimes> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let tick_ns = 1_000_000_000 / ticks_per_second.max(1);
    // user nice system idle iowait irq softirq steal
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let field = |n: usize| fields.get(n).map(|ticks| ticks.saturating_mul(tick_ns));
    Some(CpuTimes {
        idle_ns: field(3)?,
        iowait_ns: field(4)?,
        irq_ns: field(5)?,
        softirq_ns: field(6)?,
        steal_ns: field(7)?,
    })
}

/// Idle time of each CPU with iowait, nanoseconds since boot, as the kernel's ticks have it.
#[must_use]
pub fn idle_by_cpu() -> BTreeMap<u32, u64> {
    parse_idle_by_cpu(
        &fs::read_to_string("/proc/stat").unwrap_or_default(),
        rustix::param::clock_ticks_per_second(),
    )
}

fn parse_idle_by_cpu(text: &str, ticks_per_second: u64) -> BTreeMap<u32, u64> {
    let tick_ns = 1_000_000_000 / ticks_per_second.max(1);
    let of_line = |line: &str| {
        let of_one = line.strip_prefix("cpu").filter(|rest| !rest.starts_with(' '))?;
        let mut fields = of_one.split_ascii_whitespace();
        let cpu = fields.next()?.parse().ok()?;
        let idle: u64 = fields.nth(3)?.parse().ok()?;
        let iowait: u64 = fields.next()?.parse().ok()?;
        Some((cpu, idle.saturating_add(iowait).saturating_mul(tick_ns)))
    };
    text.lines().filter_map(of_line).collect()
}

/// `MemTotal` and `MemAvailable` of /proc/meminfo, in bytes.
#[must_use]
pub fn memory() -> (Option<u64>, Option<u64>) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (meminfo(&text, "MemTotal:"), meminfo(&text, "MemAvailable:"))
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Numbers of the CPUs in a file such as /sys/devices/system/cpu/online: `0-3,8`.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn cpu_list(file: &Path) -> io::Result<Vec<u32>> {
    parse_cpu_list(fs::read_to_string(file)?.trim()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// More CPUs than any kernel allows.
const CPUS_MAX: u32 = 1 << 16;

fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last >= CPUS_MAX || first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The inode of the first pid namespace's entry in /proc.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The pid namespace that this process is in, when it is not the host's; an error when /proc does not say.
///
/// # Errors
/// When /proc is not in view.
pub fn other_pid_namespace() -> io::Result<Option<String>> {
    let link = fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned();
    Ok((link != FIRST_PID_NAMESPACE).then_some(link))
}

/// By how much the clocks of this process's time namespace differ from the kernel's, as /proc words it; `None`: they do
/// not, or the kernel knows no such namespaces.
#[must_use]
pub fn shifted_clocks() -> Option<String> {
    let offsets = fs::read_to_string("/proc/self/timens_offsets").ok()?;
    let shifted = |line: &&str| line.split_ascii_whitespace().skip(1).any(|number| number != "0");
    let line = offsets.lines().find(shifted)?;
    Some(line.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

/// Numbers of the processes that /proc shows.
#[must_use]
pub fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The kernel's id of this boot.
///
/// # Errors
/// When it cannot be read or is no UUID.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    uuid::Uuid::parse_str(text.trim())
        .map(uuid::Uuid::into_bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Release, hardware and node name of the kernel.
#[must_use]
pub fn uname() -> (String, String, String) {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| crate::names::escape(part.to_bytes());
    (text(name.release()), text(name.machine()), text(name.nodename()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_has_its_idle_time() {
        let text = "cpu  1 2 3 4 5 6\ncpu0 1 2 3 40 5 6\ncpu12 1 2 3 7 1\ncpux 1\nintr 1 2 3 4 5 6\n";
        assert_eq!(
            parse_idle_by_cpu(text, 100),
            BTreeMap::from([(0, 450_000_000), (12, 80_000_000)])
        );
    }

    #[test]
    fn the_first_line_of_stat_is_read_in_ticks() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3\n";
        let times = parse_cpu_times(text, 100).unwrap();
        assert_eq!(
            times,
            CpuTimes {
                idle_ns: 40_000_000,
                iowait_ns: 50_000_000,
                irq_ns: 60_000_000,
                softirq_ns: 70_000_000,
                steal_ns: 80_000_000
            }
        );
        assert_eq!(parse_cpu_times("cpu  1 2", 100), None);
        assert_eq!(parse_cpu_times("", 100), None);
    }

    #[test]
    fn lists_of_cpus_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        for text in ["", "a", "3-1", "0-99999999", "1,,2"] {
            assert_eq!(parse_cpu_list(text), None, "{text}");
        }
    }

    #[test]
    fn meminfo_is_in_kib() {
        assert_eq!(meminfo("MemTotal:       100 kB\n", "MemTotal:"), Some(102_400));
        assert_eq!(meminfo("MemTotal:       x kB\n", "MemTotal:"), None);
    }
}
