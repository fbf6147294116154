//! /proc/PID → the record of a process, where no program in the kernel can tell: the fallback, and processes that a
//! kernel hides from its programs. CPU time comes from the process's own clock, which is exact to the nanosecond.

use std::{fs, io::Read as _};

use procscope_agent_common::{
    COMM_LEN, OPEN_FILES_UNKNOWN, Present, ProcessKey, TASK_FROM_PROC, TASK_HAS_MM, TASK_KERNEL_THREAD,
    TASK_PROC_IO, TASK_ZOMBIE, TaskRecord, ThreadTotals, WALK_TASK,
};

use crate::clock;

/// Bytes read of a file in /proc at most.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// `PF_KTHREAD` in the flags of /proc/PID/stat.
const PF_KTHREAD: u64 = 0x0020_0000;

/// What the kernel's files count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcUnits {
    /// Length of a tick of /proc/PID/stat, nanoseconds.
    pub tick_ns: u64,
    /// Bytes of a page.
    pub page_size: u64,
}

/// Reads a process. `None`: it has gone, or /proc says something that cannot be.
#[must_use]
pub fn read(pid: u32, units: ProcUnits) -> Option<TaskRecord> {
    let stat = file(pid, "stat")?;
    let status = file(pid, "status").unwrap_or_default();
    let io = file(pid, "io");
    // What was read belongs to one process only if it is still there afterwards.
    let cpu_time_ns = clock::process_ns(pid)?;
    record(pid, &stat, &status, io.as_deref(), cpu_time_ns, units)
}

fn file(pid: u32, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/{name}")).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The three files of one process as a record.
/// `None`: they say something that cannot be.
#[must_use]
pub fn record(
    pid: u32,
    stat: &[u8],
    status: &[u8],
    io: Option<&[u8]>,
    cpu_time_ns: u64,
    units: ProcUnits,
) -> Option<TaskRecord> {
    // The name may hold anything, also blanks and parentheses.
    let (open, close) = (
        stat.iter().position(|byte| *byte == b'(')?,
        stat.iter().rposition(|byte| *byte == b')')?,
    );
    let mut comm = [0; COMM_LEN];
    let name = stat.get(open + 1..close)?;
    comm.iter_mut()
        .take(COMM_LEN - 1)
        .zip(name)
        .for_each(|(to, from)| *to = *from);
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbers as proc(5) has them: the state is the third field.
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    let state = fields.first()?.chars().next()?;
    let small = |n: usize| u32::try_from(number(n)?).ok();
    let start_boottime_ns = number(22)?.checked_mul(units.tick_ns)?;
    let mut flags = TASK_FROM_PROC;
    if number(9)? & PF_KTHREAD != 0 {
        flags |= TASK_KERNEL_THREAD;
    }
    if state == 'Z' {
        flags |= TASK_ZOMBIE;
    }
    let io = io.unwrap_or_default();
    let chars = line(io, "rchar:");
    if chars.is_some() {
        flags |= TASK_PROC_IO;
    }
    let kept = |key: &str| line(io, key).unwrap_or(0);
    let pages = |key: &str| Some(line(status, key)?.saturating_mul(1024) / units.page_size.max(1));
    let anon_pages = pages("RssAnon:");
    if anon_pages.is_some() {
        flags |= TASK_HAS_MM;
    }
    Some(TaskRecord {
        kind: WALK_TASK,
        tid: pid,
        process: ProcessKey::new(pid, start_boottime_ns),
        start_boottime_ns,
        now: Present {
            file_pages: pages("RssFile:").unwrap_or(0),
            anon_pages: anon_pages.unwrap_or(0),
            shmem_pages: pages("RssShmem:").unwrap_or(0),
            swap_pages: pages("VmSwap:").unwrap_or(0),
            hiwater_pages: pages("VmHWM:").unwrap_or(0),
            virtual_pages: pages("VmSize:").unwrap_or(0),
            cgroup_id: 0,
            open_files_limit: 0,
            flags,
            state: state_bits(state),
            open_files: OPEN_FILES_UNKNOWN,
            reserved: 0,
            comm,
        },
        totals: ThreadTotals {
            cpu_time_ns,
            minor_faults: number(10)?,
            major_faults: number(12)?,
            user_ticks_ns: number(14)?.saturating_mul(units.tick_ns),
            system_ticks_ns: number(15)?.saturating_mul(units.tick_ns),
            read_bytes: chars.unwrap_or(0),
            written_bytes: kept("wchar:"),
            read_operations: kept("syscr:"),
            write_operations: kept("syscw:"),
            disk_read_bytes: kept("read_bytes:"),
            disk_written_bytes: kept("write_bytes:"),
            ..ThreadTotals::default()
        },
        ended: ThreadTotals::default(),
        parent: ProcessKey::new(small(4)?, 0),
        exec_generation: 0,
        uid: u32::try_from(line(status, "Uid:").unwrap_or(0)).ok()?,
        threads: small(20)?,
        namespace_pid: last_number(status, "NSpid:").unwrap_or(0),
    })
}

/// The first number of the line that starts with `key`.
fn line(text: &[u8], key: &str) -> Option<u64> {
    words(text, key)?.split_ascii_whitespace().next()?.parse().ok()
}

fn last_number(text: &[u8], key: &str) -> Option<u32> {
    words(text, key)?
        .split_ascii_whitespace()
        .next_back()?
        .parse()
        .ok()
}

fn words<'a>(text: &'a [u8], key: &str) -> Option<&'a str> {
    let rest = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key.as_bytes()))?;
    std::str::from_utf8(rest).ok()
}

/// The bits of `task_struct` that this letter stands for.
fn state_bits(letter: char) -> u32 {
    match letter {
        'S' => 0x01,
        'D' => 0x02,
        'T' => 0x04,
        't' => 0x08,
        'X' => 0x10,
        'Z' => 0x20,
        'P' => 0x40,
        'I' => 0x402,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNITS: ProcUnits = ProcUnits {
        tick_ns: 10_000_000,
        page_size: 4096,
    };

    const STAT: &[u8] = b"12 (a) R (b) S 3 1 1 0 -1 4194304 5 0 6 0 7 8 0 0 20 0 9 0 24 46845952 3847 0";
    const STATUS: &[u8] =
        b"Name:\tx\nUid:\t1000\t0\t0\t0\nNSpid:\t12\t4\nVmHWM:\t     40 kB\nRssAnon:\t      8 kB\n\
        RssFile:\t      4 kB\n";

    #[test]
    fn a_name_may_look_like_the_rest_of_the_line() {
        let record = record(12, STAT, STATUS, None, 99, UNITS).unwrap();
        assert_eq!(&record.now.comm[..8], b"a) R (b\0");
        assert_eq!(record.process, ProcessKey::new(12, 240_000_000));
        assert_eq!((record.parent.tgid, record.threads, record.uid), (3, 9, 1000));
        assert_eq!(
            (record.totals.cpu_time_ns, record.totals.system_ticks_ns),
            (99, 80_000_000)
        );
        assert_eq!(
            (
                record.now.anon_pages,
                record.now.file_pages,
                record.now.hiwater_pages
            ),
            (2, 1, 10)
        );
        assert_eq!((record.namespace_pid, record.now.state), (4, 1));
        assert_eq!(record.now.flags, TASK_FROM_PROC | TASK_HAS_MM);
    }

    #[test]
    fn without_memory_lines_there_is_no_memory() {
        let record = record(12, STAT, b"", Some(b"rchar: 5\nwchar: 6\n"), 99, UNITS).unwrap();
        assert_eq!(record.now.flags, TASK_FROM_PROC | TASK_PROC_IO);
        assert_eq!((record.totals.read_bytes, record.totals.written_bytes), (5, 6));
    }

    #[test]
    fn our_own_process_reads_as_itself() {
        let pid = std::process::id();
        let record = read(pid, UNITS).unwrap();
        assert_eq!(record.process.tgid, pid);
        assert!(record.totals.cpu_time_ns > 0 && record.now.anon_pages > 0 && record.threads > 0);
        assert!(read(u32::MAX, UNITS).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            stat in proptest::collection::vec(any::<u8>(), 0..200),
            status in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(record(1, &stat, &status, Some(&stat), 1, UNITS).is_none_or(|record| record.tid == 1));
        }
    }
}
