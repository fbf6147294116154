//! A machine that does not exist: some processes that work, many that sleep, some that end at once; its books balance.

use procscope_proto::v1;
use prost_types::Timestamp;
use uuid::Uuid;

use crate::args::Loadgen;

/// One in so many processes works in an interval, as on a machine with much that waits.
const WORKS: u64 = 8;
/// CPUs of the machine.
const CPUS: u32 = 8;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    host: String,
    boot_id: Vec<u8>,
    interval_ns: u64,
    ends: u32,
    processes: Vec<Process>,
    /// State of the dice.
    dice: u64,
    last_pid: u32,
    boottime_ns: u64,
}

#[derive(Debug)]
struct Process {
    id: Vec<u8>,
    pid: u32,
    name: String,
    start: Timestamp,
    start_boottime_ns: u64,
    cpu_time_ns: u64,
    rss_bytes: u64,
    told: bool,
}

impl Machine {
    /// The machine of this number.
    pub(super) fn new(number: u32, load: &Loadgen) -> Self {
        let mut machine = Self {
            host: format!("load-{number:04}"),
            boot_id: Uuid::new_v4().into_bytes().to_vec(),
            interval_ns: u64::try_from(load.interval.as_nanos()).unwrap_or(u64::MAX),
            ends: load.exits,
            processes: Vec::new(),
            dice: 0x9e37_79b9_7f4a_7c15 ^ u64::from(number),
            last_pid: 0,
            boottime_ns: 3_600_000_000_000,
        };
        let started = Timestamp::default();
        for _process in 0..load.processes {
            let process = machine.fork(started);
            machine.processes.push(process);
        }
        machine
    }

    /// A number below `most`, which is not 0.
    fn roll(&mut self, most: u64) -> u64 {
        // xorshift64: enough for a load.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % most
    }

    fn fork(&mut self, start: Timestamp) -> Process {
        self.last_pid += 1;
        let kind = self.roll(40);
        Process {
            id: Uuid::new_v4().into_bytes().to_vec(),
            pid: self.last_pid,
            name: format!("load-worker-{kind}"),
            start,
            start_boottime_ns: self.boottime_ns + u64::from(self.last_pid),
            cpu_time_ns: 0,
            rss_bytes: (1 + self.roll(50_000)) * PAGE,
            told: false,
        }
    }

    /// What it did in the interval that ends now, by `now`.
    pub(super) fn interval(&mut self, now: Timestamp) -> v1::Snapshot {
        self.boottime_ns += self.interval_ns;
        let mut processes = std::mem::take(&mut self.processes);
        let (mut samples, mut infos) = (Vec::with_capacity(processes.len()), Vec::new());
        let mut used_ns = 0;
        let share_ns =
            self.interval_ns * u64::from(CPUS) / u64::try_from(processes.len().max(1)).unwrap_or(1);
        for process in &mut processes {
            let works = self.roll(WORKS) == 0;
            let delta = if works { self.roll(share_ns.max(1)) } else { 0 };
            process.cpu_time_ns += delta;
            used_ns += delta;
            if works {
                process.rss_bytes = (process.rss_bytes + (self.roll(65) * PAGE))
                    .saturating_sub(32 * PAGE)
                    .max(PAGE);
            }
            if !std::mem::replace(&mut process.told, true) {
                infos.push(process.info());
            }
            samples.push(process.sample(delta, works));
        }
        self.processes = processes;
        let mut exits = Vec::new();
        for _end in 0..self.ends {
            let process = self.fork(now);
            let cpu_time_ns = self.roll(2_000_000);
            used_ns += cpu_time_ns;
            exits.push(process.exit(cpu_time_ns, now));
            let mut sample = process.sample(cpu_time_ns, true);
            (sample.exited, sample.rss_bytes, sample.threads) = (true, None, 0);
            sample.cpu_time_ns = cpu_time_ns;
            samples.push(sample);
        }
        let wall_ns = self.interval_ns * u64::from(CPUS);
        v1::Snapshot {
            host: self.host.clone(),
            boot_id: self.boot_id.clone(),
            time: Some(now),
            interval_ns: self.interval_ns,
            source: v1::Source::Ebpf.into(),
            audit: Some(v1::HostAudit {
                cpus: CPUS,
                wall_ns,
                process_ns: used_ns,
                idle_ns: wall_ns.saturating_sub(used_ns),
                interrupts_in_tasks: true,
                ..v1::HostAudit::default()
            }),
            host_info: Some(v1::HostInfo {
                agent_version: concat!(env!("CARGO_PKG_VERSION"), " loadgen").to_owned(),
                kernel_release: "none".to_owned(),
                architecture: "none".to_owned(),
                cpus: CPUS,
                memory_total_bytes: 64 << 30,
                memory_available_bytes: None,
                processes: u32::try_from(samples.len()).unwrap_or(u32::MAX),
                threads: u32::try_from(samples.len()).unwrap_or(u32::MAX),
            }),
            samples,
            exits,
            processes: infos,
            ..v1::Snapshot::default()
        }
    }
}

impl Process {
    fn sample(&self, delta: u64, works: bool) -> v1::ProcessSample {
        v1::ProcessSample {
            process_id: self.id.clone(),
            pid: self.pid,
            parent_pid: 1,
            start_boottime_ns: self.start_boottime_ns,
            start_time: Some(self.start),
            name: self.name.clone(),
            cpu_time_ns: self.cpu_time_ns,
            cpu_time_ns_delta: delta,
            rss_bytes: Some(self.rss_bytes),
            peak_rss_bytes: Some(self.rss_bytes),
            lifetime_peak_rss_bytes: Some(self.rss_bytes),
            threads: 1,
            runqueue_ns_delta: Some(delta / 50),
            voluntary_switches_delta: Some(u64::from(works)),
            involuntary_switches_delta: Some(0),
            minor_faults_delta: Some(u64::from(works) * 3),
            major_faults_delta: Some(0),
            source: v1::Source::Ebpf.into(),
            state: "S".to_owned(),
            ..v1::ProcessSample::default()
        }
    }

    fn info(&self) -> v1::ProcessInfo {
        v1::ProcessInfo {
            process_id: self.id.clone(),
            pid: self.pid,
            parent_pid: 1,
            start_boottime_ns: self.start_boottime_ns,
            start_time: Some(self.start),
            name: self.name.clone(),
            exe: format!("/usr/bin/{}", self.name),
            cmdline: format!("{} --number {}", self.name, self.pid),
            ..v1::ProcessInfo::default()
        }
    }

    fn exit(&self, cpu_time_ns: u64, now: Timestamp) -> v1::ProcessExit {
        v1::ProcessExit {
            process_id: self.id.clone(),
            pid: self.pid,
            parent_pid: 1,
            start_boottime_ns: self.start_boottime_ns,
            start_time: Some(self.start),
            end_time: Some(now),
            name: self.name.clone(),
            lifetime_ns: cpu_time_ns * 2,
            cpu_time_ns,
            peak_rss_bytes: Some(self.rss_bytes),
            exit_code: Some(0),
            source: v1::Source::Ebpf.into(),
            ..v1::ProcessExit::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_books_balance_and_totals_rise_by_their_deltas() {
        let load = Loadgen {
            agents: 1,
            processes: 50,
            exits: 3,
            interval: Duration::from_secs(1),
            time: Duration::ZERO,
            settle: Duration::ZERO,
        };
        let mut machine = Machine::new(7, &load);
        let mut totals = std::collections::HashMap::new();
        for interval in 0..20 {
            let snapshot = machine.interval(Timestamp::default());
            assert_eq!(snapshot.host, "load-0007");
            assert_eq!((snapshot.samples.len(), snapshot.exits.len()), (53, 3));
            assert_eq!(snapshot.processes.len(), if interval == 0 { 50 } else { 0 });
            let audit = snapshot.audit.unwrap();
            assert_eq!(audit.process_ns + audit.idle_ns, audit.wall_ns);
            let used: u64 = snapshot
                .samples
                .iter()
                .map(|sample| sample.cpu_time_ns_delta)
                .sum();
            assert_eq!(audit.process_ns, used);
            for sample in snapshot.samples {
                let total = totals.entry(sample.process_id).or_insert(0);
                *total += sample.cpu_time_ns_delta;
                assert_eq!(*total, sample.cpu_time_ns);
            }
        }
    }
}
