//! What the fold found → one snapshot in the words of the wire.

use std::sync::Arc;

use procscope_proto::v1;

use crate::{
    fold::{Exit, FoldedProcess},
    identity::{Identities, Identity},
};

/// The instant that samples belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// Nanoseconds since 1970 by the wall clock.
    pub wall_ns: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boottime_ns: u64,
}

impl Instant {
    /// The wall clock's lead over the time since boot, at this instant.
    #[must_use]
    pub fn wall_minus_boot_ns(self) -> u64 {
        self.wall_ns.saturating_sub(self.boottime_ns)
    }
}

/// Samples, exits and names of one interval.
#[derive(Debug, Default)]
pub struct Told {
    /// One for each process alive in the interval.
    pub samples: Vec<v1::ProcessSample>,
    /// One for each process that ended.
    pub exits: Vec<v1::ProcessExit>,
    /// Names that are new.
    pub infos: Vec<v1::ProcessInfo>,
}

/// Tells of each process, and forgets the names of those that ended.
pub fn tell(processes: &[FoldedProcess], identities: &mut Identities, page_size: u64, now: Instant) -> Told {
    let mut told = Told {
        samples: Vec::with_capacity(processes.len()),
        ..Told::default()
    };
    for process in processes {
        let (identity, new) = identities.of(process.key, &process.facts, now.wall_minus_boot_ns());
        if new {
            told.infos.push(info(process, &identity));
        }
        told.samples.push(sample(process, &identity, page_size));
        if let Some(end) = process.exit {
            told.exits.push(exit(process, end, &identity, page_size));
            identities.forget(process.key);
        }
    }
    told
}

fn sample(process: &FoldedProcess, identity: &Arc<Identity>, page_size: u64) -> v1::ProcessSample {
    let bytes = |pages: Option<u64>| pages.map(|pages| pages.saturating_mul(page_size));
    v1::ProcessSample {
        process_id: identity.process_id.to_vec(),
        exec_generation: process.facts.exec_generation,
        pid: process.key.tgid,
        parent_pid: parent_pid(process),
        start_boottime_ns: process.key.start_boottime_ns,
        start_time: Some(timestamp(identity.start_wall_ns)),
        name: identity.name.clone(),
        uid: process.facts.uid,
        container_id: identity.container_id.clone(),
        kernel_thread: process.facts.kernel_thread,
        exited: process.exit.is_some(),
        cpu_time_ns: process.totals.cpu_time_ns,
        cpu_time_ns_delta: process.delta.cpu_time_ns,
        rss_bytes: bytes(process.rss_pages),
        peak_rss_bytes: bytes(process.peak_rss_pages),
        lifetime_peak_rss_bytes: bytes(process.lifetime_peak_rss_pages),
        threads: process.threads,
        runqueue_ns_delta: Some(process.delta.runqueue_ns),
        voluntary_switches_delta: Some(process.delta.voluntary_switches),
        involuntary_switches_delta: Some(process.delta.involuntary_switches),
        minor_faults_delta: Some(process.delta.minor_faults),
        major_faults_delta: Some(process.delta.major_faults),
        first_seen: process.first_seen,
    }
}

fn exit(process: &FoldedProcess, end: Exit, identity: &Arc<Identity>, page_size: u64) -> v1::ProcessExit {
    let lifetime_ns = end.end_boottime_ns.saturating_sub(process.key.start_boottime_ns);
    // The low seven bits are the signal, the next byte what was given to exit(2).
    let signal = end
        .status
        .map(|status| status & 0x7f)
        .filter(|signal| *signal != 0);
    let code = end
        .status
        .map(|status| (status >> 8) & 0xff)
        .filter(|_| signal.is_none());
    v1::ProcessExit {
        process_id: identity.process_id.to_vec(),
        exec_generation: process.facts.exec_generation,
        pid: process.key.tgid,
        parent_pid: parent_pid(process),
        start_boottime_ns: process.key.start_boottime_ns,
        start_time: Some(timestamp(identity.start_wall_ns)),
        end_time: Some(timestamp(identity.start_wall_ns.saturating_add(lifetime_ns))),
        name: identity.name.clone(),
        uid: process.facts.uid,
        container_id: identity.container_id.clone(),
        lifetime_ns,
        cpu_time_ns: process.totals.cpu_time_ns,
        peak_rss_bytes: process
            .lifetime_peak_rss_pages
            .map(|pages| pages.saturating_mul(page_size)),
        exit_code: code,
        exit_signal: signal,
        oom_killed: end.oom_killed,
        runqueue_ns: Some(process.totals.runqueue_ns),
        voluntary_switches: Some(process.totals.voluntary_switches),
        involuntary_switches: Some(process.totals.involuntary_switches),
        minor_faults: Some(process.totals.minor_faults),
        major_faults: Some(process.totals.major_faults),
        exe: identity.exe.clone(),
    }
}

fn info(process: &FoldedProcess, identity: &Arc<Identity>) -> v1::ProcessInfo {
    v1::ProcessInfo {
        process_id: identity.process_id.to_vec(),
        exec_generation: process.facts.exec_generation,
        pid: process.key.tgid,
        parent_pid: parent_pid(process),
        start_boottime_ns: process.key.start_boottime_ns,
        start_time: Some(timestamp(identity.start_wall_ns)),
        name: identity.name.clone(),
        exe: identity.exe.clone(),
        cmdline: identity.cmdline.clone(),
        uid: process.facts.uid,
        cgroup: identity.cgroup.clone(),
        container_id: identity.container_id.clone(),
        kernel_thread: process.facts.kernel_thread,
    }
}

fn parent_pid(process: &FoldedProcess) -> u32 {
    process.facts.parent.map_or(0, |parent| parent.tgid)
}

/// Nanoseconds since 1970 in the words of the wire.
#[must_use]
pub fn timestamp(wall_ns: u64) -> prost_types::Timestamp {
    const SECOND_NS: u64 = 1_000_000_000;
    prost_types::Timestamp {
        seconds: i64::try_from(wall_ns / SECOND_NS).unwrap_or(i64::MAX),
        nanos: i32::try_from(wall_ns % SECOND_NS).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use procscope_agent_common::{ProcessKey, ThreadTotals};

    use super::*;
    use crate::{fold::Facts, scrub::Cmdline};

    fn ended(status: u32) -> v1::ProcessExit {
        let process = FoldedProcess {
            key: ProcessKey::new(10, 500),
            facts: Arc::new(Facts {
                comm: b"x".to_vec(),
                ..Facts::default()
            }),
            totals: ThreadTotals {
                cpu_time_ns: 7,
                ..ThreadTotals::default()
            },
            delta: ThreadTotals::default(),
            rss_pages: None,
            peak_rss_pages: Some(3),
            lifetime_peak_rss_pages: Some(4),
            threads: 0,
            first_seen: true,
            exit: Some(Exit {
                status: Some(status),
                end_boottime_ns: 800,
                oom_killed: Some(false),
            }),
        };
        let mut identities = Identities::new("/nonexistent".into(), [0; 16], None, Cmdline::Off);
        let now = Instant {
            wall_ns: 10_000,
            boottime_ns: 1_000,
        };
        tell(&[process], &mut identities, 4096, now).exits.remove(0)
    }

    #[test]
    fn an_exit_has_a_code_or_a_signal_never_both() {
        assert_eq!((ended(0).exit_code, ended(0).exit_signal), (Some(0), None));
        assert_eq!(
            (ended(3 << 8).exit_code, ended(3 << 8).exit_signal),
            (Some(3), None)
        );
        assert_eq!((ended(9).exit_code, ended(9).exit_signal), (None, Some(9)));
        // With the bit that says that a core was dumped.
        assert_eq!((ended(0x8b).exit_code, ended(0x8b).exit_signal), (None, Some(11)));
    }

    #[test]
    fn start_and_end_lie_a_lifetime_apart_whatever_the_wall_clock_does() {
        let exit = ended(0);
        assert_eq!(exit.lifetime_ns, 300);
        assert_eq!(exit.start_time.unwrap().nanos, 9_500);
        assert_eq!(exit.end_time.unwrap().nanos, 9_800);
        assert_eq!(exit.peak_rss_bytes, Some(4 * 4096));
    }
}
