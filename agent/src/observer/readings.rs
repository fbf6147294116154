//! What is asked of the kernel and the machine at start and at the edges of an interval.

use std::{collections::HashSet, path::Path};

use super::ObserveError;
use crate::{
    audit::AuditReading,
    clock,
    drain::{CpuIdle, Drain},
    fold::Fold,
    host,
    probes::Probes,
    procfs::{self, ProcUnits},
};

const ONLINE: &str = "/sys/devices/system/cpu/online";
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// Loads and attaches the kernel programs.
pub(super) fn attach(count_waits: bool) -> Result<Drain, ObserveError> {
    let host = |what| move |source| ObserveError::Host { what, source };
    if let Some(other) = host::other_pid_namespace().map_err(host("the pid namespace"))? {
        return Err(ObserveError::PidNamespace(other));
    }
    if let Some(shifted) = host::shifted_clocks() {
        return Err(ObserveError::TimeNamespace(shifted));
    }
    let possible = host::cpu_list(Path::new(POSSIBLE)).map_err(host(POSSIBLE))?;
    let slots = possible.iter().max().map_or(1, |last| last + 1);
    Ok(Drain::open(Probes::attach_with(slots, count_waits)?, slots)?)
}

/// Adds what /proc says of these processes to the walk.
pub(super) fn sample_proc(fold: &mut Fold, processes: &[u32], units: ProcUnits) {
    for record in processes.iter().filter_map(|pid| procfs::read(*pid, units)) {
        fold.task(&record, 0);
    }
}

/// Idle time of every CPU that is online, closed now, and what /proc/stat says.
pub(super) fn read_audit(drain: Option<&Drain>) -> Result<AuditReading, ObserveError> {
    let online = host::cpu_list(Path::new(ONLINE)).map_err(|source| ObserveError::Host {
        what: "the CPUs that are online",
        source,
    })?;
    let raw_ns = clock::monotonic_raw_ns();
    let monotonic_ns = clock::monotonic_ns();
    let told = drain.is_none().then(host::idle_by_cpu).unwrap_or_default();
    let idle = |cpu| match drain {
        Some(drain) => drain.idle(cpu, monotonic_ns),
        None => told.get(&cpu).map(|idle_ns| CpuIdle {
            idle_ns: *idle_ns,
            known: true,
        }),
    };
    let idle = online
        .into_iter()
        .filter_map(|cpu| Some((cpu, idle(cpu)?)))
        .collect();
    Ok(AuditReading {
        raw_ns,
        idle,
        times: host::cpu_times(),
    })
}

/// Goes to each CPU once, so that each has switched under our eyes: one that idles says since when, one that does not
/// has not idled. Tells where it has been.
pub(super) fn visit_every_cpu() -> HashSet<u32> {
    let mut visited = HashSet::new();
    let Ok(home) = rustix::thread::sched_getaffinity(None) else {
        return visited;
    };
    for cpu in (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| home.is_set(*cpu)) {
        let mut one = rustix::thread::CpuSet::new();
        one.set(cpu);
        // Refused: the CPU went offline, or is not ours; its idle time stays unknown and shows as residual.
        if rustix::thread::sched_setaffinity(None, &one).is_ok() {
            visited.extend(u32::try_from(cpu));
        }
    }
    if let Err(error) = rustix::thread::sched_setaffinity(None, &home) {
        tracing::warn!(%error, "could not give the agent all of its CPUs back");
    }
    visited
}

/// How often this thread has lost its CPU to another; 0 when the kernel does not say.
pub(super) fn preemptions() -> i64 {
    // SAFETY: all zeroes is a good `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it is written to before the call returns, and to nothing else.
    if unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) } == 0 {
        usage.ru_nivcsw
    } else {
        0
    }
}

/// Gives memory that is not needed any more back to the machine: of loading, of a storm.
pub(super) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: frees what the allocator holds unused; any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
