//! A request into a checked `Snapshot`, or a refusal in words that its sender can act on.
//!
//! Whatever an agent sends is hostile until it has passed here: sizes, counts, identities and times are bounded, and
//! characters that could steer a terminal are escaped once more although agents escape them already.

mod process;
mod weight;

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use procscope_proto::v1;
use prost::Message as _;
use prost_types::Timestamp;
use uuid::Uuid;

pub use weight::weigh;

use crate::model::{
    AgentCost, AgentEpoch, HostAudit, HostInfo, ProcessSample, ProgramCost, Snapshot, Source, TIME_MS_MAX,
    hex,
};

/// 2000-01-01: no host measured anything before, so a time before it is a clock that was never set.
const TIME_MS_MIN: i64 = 946_684_800_000;

/// The longest interval that is still an interval: one hour.
const INTERVAL_NS_MAX: u64 = 3_600_000_000_000;

/// No machine has more CPUs (the kernel's own limit), so no process can use more CPU time in an interval.
const CPUS_MAX: u64 = 8_192;

/// More address space than any machine has (5-level page tables): 64 PiB.
const MEMORY_BYTES_MAX: u64 = 1 << 56;

/// More than any machine moves or counts in an interval: 64 PiB in an hour are 18 TiB a second.
const IN_INTERVAL_MAX: u64 = 1 << 56;

/// Programs in the kernel that an agent tells of, and bytes of their names.
const PROGRAMS_MAX: usize = 64;
const PROGRAM_NAME_BYTES_MAX: usize = 64;

/// A thousand times the whole machine: an estimate may be off, but not by that.
const PPM_MAX: u64 = 1_000_000_000;

/// Rows of one kind in a snapshot: more than the greatest `pid_max` a kernel is likely to run full of.
const ROWS_MAX: usize = 250_000;

/// Losses of a reason, and events lost in an interval: a million million. Years of them have a sum.
const LOST_MAX: u64 = 1 << 40;

/// How far ahead of ours the clock of a host may be: a time zone taken for another, and some.
const AHEAD_MS_MAX: i64 = 24 * 3_600_000;

/// Reasons of losses in a snapshot.
const LOSSES_MAX: usize = 256;

/// Bytes of names: 255 bytes is the longest host name, and a comm of 15 bytes escapes to 60.
const NAME_BYTES_MAX: usize = 255;

/// Bytes of paths and command lines: a path of 4,096 bytes, each escaped to four.
const TEXT_BYTES_MAX: usize = 16_384;

/// Why a request was refused, in words for its sender.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
#[non_exhaustive]
pub struct Refusal {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Refusal {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

type Checked<T> = Result<T, Refusal>;

/// Checks who a request says it is from.
///
/// # Errors
/// When an identity has the wrong size or is zero.
pub fn identity(request: &v1::PushSnapshotsRequest) -> Checked<(AgentEpoch, u64)> {
    let agent_id = uuid("agent_id", &request.agent_id)?;
    if request.epoch == 0 {
        return Err(Refusal::new("epoch", "is 0; it has to be random"));
    }
    if request.seq == 0 {
        return Err(Refusal::new("seq", "is 0; the first snapshot of an epoch is 1"));
    }
    Ok((
        AgentEpoch {
            agent_id,
            epoch: request.epoch,
        },
        request.seq,
    ))
}

/// Decodes and checks the snapshot of a request.
///
/// # Errors
/// When the checksum does not fit, the bytes are no `Snapshot`, or a field is out of its bounds.
pub fn snapshot(request: v1::PushSnapshotsRequest, received_at_ms: i64) -> Checked<Snapshot> {
    let (agent, seq) = identity(&request)?;
    let encoded = Bytes::from(request.snapshot);
    let crc = crc32c::crc32c(&encoded);
    if crc != request.snapshot_crc32c {
        return Err(Refusal::new(
            "snapshot_crc32c",
            format!(
                "is {:#010x} but the bytes have {crc:#010x}: they were damaged on the way",
                request.snapshot_crc32c
            ),
        ));
    }
    let snapshot = v1::Snapshot::decode(encoded.clone())
        .map_err(|error| Refusal::new("snapshot", format!("is no encoded Snapshot: {error}")))?;
    let source = source(snapshot.source())
        .ok_or_else(|| Refusal::new("source", "is not one that this collector knows"))?;
    let host = word("host", snapshot.host)?;
    if host.is_empty() {
        return Err(Refusal::new("host", "is empty"));
    }
    let interval_ns = snapshot.interval_ns;
    if !(1..=INTERVAL_NS_MAX).contains(&interval_ns) {
        return Err(Refusal::new(
            "interval_ns",
            format!("is {interval_ns}, not within 1 ns and 1 h"),
        ));
    }
    let mut words = process::Words::default();
    let samples = each("samples", snapshot.samples, |row| {
        process::sample(row, interval_ns, &mut words)
    })?;
    each_once(&samples)?;
    Ok(Snapshot {
        agent,
        seq,
        host: host.into(),
        boot_id: uuid("boot_id", &snapshot.boot_id)?,
        time_ms: time("time", snapshot.time, received_at_ms)?,
        interval_ns,
        source,
        samples,
        exits: each("exits", snapshot.exits, |row| {
            process::exit(row, received_at_ms, &mut words)
        })?,
        processes: each("processes", snapshot.processes, |row| {
            process::info(row, &mut words)
        })?,
        audit: snapshot.audit.map(|told| audit(told, interval_ns)).transpose()?,
        host_info: snapshot.host_info.map(host_info).transpose()?,
        losses: losses(snapshot.losses)?,
        agent_cost: snapshot
            .agent_cost
            .map(|cost| agent_cost(cost, interval_ns))
            .transpose()?,
        received_at_ms,
        encoded,
    })
}

/// How something was measured; `None` when it does not say.
fn source(source: v1::Source) -> Option<Source> {
    match source {
        v1::Source::Ebpf => Some(Source::Ebpf),
        v1::Source::EbpfQuiet => Some(Source::EbpfQuiet),
        v1::Source::Proc => Some(Source::Proc),
        v1::Source::Unspecified => None,
    }
}

fn each<A, B>(field: &str, rows: Vec<A>, mut check: impl FnMut(A) -> Checked<B>) -> Checked<Vec<B>> {
    if rows.len() > ROWS_MAX {
        return Err(Refusal::new(
            field,
            format!("has {} rows, more than {ROWS_MAX}", rows.len()),
        ));
    }
    let at = |index: usize, refusal: Refusal| {
        Refusal::new(format!("{field}[{index}].{}", refusal.field), refusal.reason)
    };
    rows.into_iter()
        .enumerate()
        .map(|(index, row)| check(row).map_err(|why| at(index, why)))
        .collect()
}

/// A process has one row in an interval for each program that it ran.
fn each_once(samples: &[ProcessSample]) -> Checked<()> {
    let mut seen = HashSet::with_capacity(samples.len());
    for (index, sample) in samples.iter().enumerate() {
        let identity = &sample.identity;
        if !seen.insert((identity.process_id, identity.exec_generation)) {
            return Err(Refusal::new(
                format!("samples[{index}].process_id"),
                "has a row in this snapshot already, with the same exec_generation",
            ));
        }
    }
    Ok(())
}

fn audit(audit: v1::HostAudit, interval_ns: u64) -> Checked<HostAudit> {
    let told = |field, ns| cpu_time(field, ns, interval_ns);
    let always = |field, ns| told(field, Some(ns)).map(|_within| ns);
    let lost = |field, count| at_most(field, Some(count), LOST_MAX, LOST).map(|_within| count);
    always("audit.residual_ns", audit.residual_ns.unsigned_abs())?;
    Ok(HostAudit {
        cpus: cpus("audit.cpus", audit.cpus)?,
        wall_ns: always("audit.wall_ns", audit.wall_ns)?,
        process_ns: always("audit.process_ns", audit.process_ns)?,
        kthread_ns: always("audit.kthread_ns", audit.kthread_ns)?,
        idle_ns: always("audit.idle_ns", audit.idle_ns)?,
        iowait_ns: told("audit.iowait_ns", audit.iowait_ns)?,
        irq_ns: told("audit.irq_ns", audit.irq_ns)?,
        softirq_ns: told("audit.softirq_ns", audit.softirq_ns)?,
        steal_ns: told("audit.steal_ns", audit.steal_ns)?,
        interrupts_in_tasks: audit.interrupts_in_tasks,
        residual_ns: audit.residual_ns,
        lost_events: lost("audit.lost_events", audit.lost_events)?,
        torn_reads: lost("audit.torn_reads", audit.torn_reads)?,
    })
}

fn cpus(field: &str, cpus: u32) -> Checked<u32> {
    at_most(
        field,
        Some(u64::from(cpus)),
        CPUS_MAX,
        "is more than a kernel can have",
    )
    .map(|_within| cpus)
}

fn host_info(info: v1::HostInfo) -> Checked<HostInfo> {
    Ok(HostInfo {
        agent_version: word("host_info.agent_version", info.agent_version)?,
        kernel_release: word("host_info.kernel_release", info.kernel_release)?,
        architecture: word("host_info.architecture", info.architecture)?,
        cpus: cpus("host_info.cpus", info.cpus)?,
        memory_total_bytes: info.memory_total_bytes,
        memory_available_bytes: info.memory_available_bytes,
        processes: info.processes,
        threads: info.threads,
    })
}

fn agent_cost(cost: v1::AgentCost, interval_ns: u64) -> Checked<AgentCost> {
    if cost.programs.len() > PROGRAMS_MAX {
        return Err(Refusal::new(
            "agent_cost.programs",
            format!("names {} programs, more than {PROGRAMS_MAX}", cost.programs.len()),
        ));
    }
    let program = |program: v1::ProgramCost| {
        in_interval("agent_cost.programs.runs", Some(program.runs))?;
        cpu_time("agent_cost.programs.run_ns", Some(program.run_ns), interval_ns)?;
        Ok(ProgramCost {
            name: bounded("agent_cost.programs.name", program.name, PROGRAM_NAME_BYTES_MAX)?,
            runs: program.runs,
            run_ns: program.run_ns,
        })
    };
    let share = |field, ppm| at_most(field, ppm, PPM_MAX, "is more than a thousand machines");
    Ok(AgentCost {
        cpu_time_ns_delta: cost.cpu_time_ns_delta,
        rss_bytes: cost.rss_bytes,
        drain_ns: cost.drain_ns,
        events: cost.events,
        queue_len: cost.queue_len,
        programs: cost.programs.into_iter().map(program).collect::<Checked<_>>()?,
        attach_ns: at_most(
            "agent_cost.attach_ns",
            cost.attach_ns,
            INTERVAL_NS_MAX,
            "is more than an hour",
        )?,
        kernel_ppm: share("agent_cost.kernel_ppm", cost.kernel_ppm)?,
        kernel_budget_ppm: share("agent_cost.kernel_budget_ppm", cost.kernel_budget_ppm)?,
    })
}

const LOST: &str = "is more than a host can lose in an interval";

/// Losses by reason; a reason that is named twice is added up.
fn losses(losses: Vec<v1::Loss>) -> Checked<Vec<(String, u64)>> {
    if losses.len() > LOSSES_MAX {
        return Err(Refusal::new(
            "losses",
            format!("names {} reasons, more than {LOSSES_MAX}", losses.len()),
        ));
    }
    let mut sums = BTreeMap::<String, u64>::new();
    for loss in losses.into_iter().filter(|loss| loss.count > 0) {
        at_most("losses.count", Some(loss.count), LOST_MAX, LOST)?;
        let sum = sums.entry(word("losses.reason", loss.reason)?).or_default();
        *sum = sum.saturating_add(loss.count);
    }
    Ok(sums.into_iter().collect())
}

fn uuid(field: &str, bytes: &[u8]) -> Checked<Uuid> {
    let uuid = Uuid::from_slice(bytes)
        .map_err(|_not_16| Refusal::new(field, format!("has {} bytes instead of 16", bytes.len())))?;
    if uuid.is_nil() {
        Err(Refusal::new(field, "is all zeros"))
    } else {
        Ok(uuid)
    }
}

/// A figure within its bound; `why` says what lies beyond.
fn at_most<N: PartialOrd + Copy>(field: &str, figure: Option<N>, most: N, why: &str) -> Checked<Option<N>> {
    match figure {
        Some(figure) if figure > most => Err(Refusal::new(field, why)),
        figure => Ok(figure),
    }
}

/// CPU time within an interval, in nanoseconds.
fn cpu_time(field: &str, ns: Option<u64>, interval_ns: u64) -> Checked<Option<u64>> {
    let most = interval_ns.saturating_mul(CPUS_MAX);
    at_most(field, ns, most, "is more than 8192 CPUs have in the interval")
}

/// Bytes or events within an interval.
fn in_interval(field: &str, count: Option<u64>) -> Checked<Option<u64>> {
    let why = "is more than any machine does in an interval";
    at_most(field, count, IN_INTERVAL_MAX, why)
}

fn memory(field: &str, bytes: Option<u64>) -> Checked<Option<u64>> {
    at_most(
        field,
        bytes,
        MEMORY_BYTES_MAX,
        "is more memory than any machine has",
    )
}

fn time(field: &str, timestamp: Option<Timestamp>, received_at_ms: i64) -> Checked<i64> {
    let ms = timestamp
        .and_then(milliseconds)
        .ok_or_else(|| Refusal::new(field, "is absent or no valid timestamp"))?;
    if !(TIME_MS_MIN..TIME_MS_MAX).contains(&ms) {
        return Err(Refusal::new(
            field,
            "lies outside of the years 2000 to 2105: set the clock of the host",
        ));
    }
    if ms.saturating_sub(received_at_ms) > AHEAD_MS_MAX {
        return Err(Refusal::new(
            field,
            "lies more than 24 h ahead of the collector's clock: set the clock of the host",
        ));
    }
    Ok(ms)
}

/// A time that is only shown: what is absent or impossible becomes 1970.
fn display_time(timestamp: Option<Timestamp>) -> i64 {
    timestamp
        .and_then(milliseconds)
        .filter(|ms| (0..TIME_MS_MAX).contains(ms))
        .unwrap_or(0)
}

/// Whole milliseconds since 1970; `None` for what is no valid timestamp.
#[must_use]
pub fn milliseconds(timestamp: Timestamp) -> Option<i64> {
    if !(0..1_000_000_000).contains(&timestamp.nanos) {
        return None;
    }
    timestamp
        .seconds
        .checked_mul(1_000)?
        .checked_add(i64::from(timestamp.nanos / 1_000_000))
}

fn word(field: &str, word: String) -> Checked<String> {
    bounded(field, word, NAME_BYTES_MAX)
}

fn text(field: &str, text: String) -> Checked<String> {
    bounded(field, text, TEXT_BYTES_MAX)
}

fn bounded(field: &str, text: String, bytes_max: usize) -> Checked<String> {
    let escaped = escape(text);
    if escaped.len() > bytes_max {
        return Err(Refusal::new(
            field,
            format!("has {} bytes, more than {bytes_max}", escaped.len()),
        ));
    }
    Ok(escaped)
}

/// Writes characters that steer a terminal or turn the direction of text as `\xNN`, byte by byte.
fn escape(text: String) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                escaped.push_str("\\x");
                escaped.push_str(&hex(&[byte]));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
