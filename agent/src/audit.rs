//! Where each CPU-second of the machine went: what processes, kernel threads and idling add up to, and what is
//! left over. Pure.

use std::collections::BTreeMap;

use procscope_proto::v1;

use crate::{drain::CpuIdle, host::CpuTimes, probes::TimeAccounting};

/// Idle and interrupt counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReading {
    /// `CLOCK_MONOTONIC_RAW`.
    pub raw_ns: u64,
    /// Idle time of each CPU that is online.
    pub idle: BTreeMap<u32, CpuIdle>,
    /// What /proc/stat says; `None`: it could not be read.
    pub times: Option<CpuTimes>,
}

/// Sums of one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// By processes, nanoseconds.
    pub process_ns: u64,
    /// By kernel threads, nanoseconds.
    pub kthread_ns: u64,
    /// Events of the kernel side that never arrived.
    pub lost_events: u64,
    /// Counters that fell and were not counted.
    pub torn_reads: u64,
}

/// The balance between two readings. `interval_ns`: by `CLOCK_MONOTONIC_RAW`.
#[must_use]
pub fn audit(
    before: &AuditReading,
    after: &AuditReading,
    used: Used,
    accounting: TimeAccounting,
) -> v1::HostAudit {
    let interval_ns = after.raw_ns.saturating_sub(before.raw_ns);
    let cpus = u32::try_from(after.idle.len()).unwrap_or(u32::MAX);
    let wall_ns = interval_ns.saturating_mul(u64::from(cpus));
    let idle_all_ns: u64 = after
        .idle
        .iter()
        .map(|(cpu, now)| {
            // A CPU that has not switched since we came tells nothing: the residual shows it.
            let then = before.idle.get(cpu).filter(|then| then.known);
            then.map_or(0, |then| {
                now.idle_ns.saturating_sub(then.idle_ns).min(interval_ns)
            })
        })
        .sum();
    let times = before.times.zip(after.times);
    let rise =
        |field: fn(&CpuTimes) -> u64| times.map(|(then, now)| field(&now).saturating_sub(field(&then)));
    let iowait_ns = rise(|times| times.iowait_ns).map(|ns| ns.min(idle_all_ns));
    let irq_ns = rise(|times| times.irq_ns).filter(|_| accounting.interrupts);
    let softirq_ns = rise(|times| times.softirq_ns).filter(|_| accounting.interrupts);
    let steal_ns = rise(|times| times.steal_ns).filter(|_| accounting.steal);
    let outside = [irq_ns, softirq_ns, steal_ns].into_iter().flatten();
    let known: u64 = [used.process_ns, used.kthread_ns, idle_all_ns]
        .into_iter()
        .chain(outside)
        .fold(0, u64::saturating_add);
    v1::HostAudit {
        cpus,
        wall_ns,
        process_ns: used.process_ns,
        kthread_ns: used.kthread_ns,
        idle_ns: idle_all_ns - iowait_ns.unwrap_or(0),
        iowait_ns,
        irq_ns,
        softirq_ns,
        steal_ns,
        interrupts_in_tasks: !accounting.interrupts,
        residual_ns: wall_ns.cast_signed().wrapping_sub(known.cast_signed()),
        lost_events: used.lost_events,
        torn_reads: used.torn_reads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: TimeAccounting = TimeAccounting {
        interrupts: false,
        steal: false,
    };

    fn reading(raw_ns: u64, idle: &[(u64, bool)], iowait_ns: u64) -> AuditReading {
        let idle = (0..).zip(idle).map(|(cpu, (idle_ns, known))| {
            (
                cpu,
                CpuIdle {
                    idle_ns: *idle_ns,
                    known: *known,
                },
            )
        });
        AuditReading {
            raw_ns,
            idle: idle.collect(),
            times: Some(CpuTimes {
                idle_ns: 900,
                iowait_ns,
                irq_ns: 5,
                softirq_ns: 5,
                steal_ns: 5,
            }),
        }
    }

    #[test]
    fn what_everybody_used_and_idling_make_up_the_wall() {
        let before = reading(0, &[(0, true), (100, true)], 0);
        let after = reading(1000, &[(400, true), (800, true)], 50);
        let used = Used {
            process_ns: 850,
            kthread_ns: 50,
            ..Used::default()
        };
        let audit = audit(&before, &after, used, HIDDEN);
        assert_eq!((audit.cpus, audit.wall_ns), (2, 2000));
        assert_eq!((audit.idle_ns, audit.iowait_ns), (1050, Some(50)));
        assert_eq!(
            (audit.irq_ns, audit.steal_ns, audit.interrupts_in_tasks),
            (None, None, true)
        );
        assert_eq!(audit.residual_ns, 0);
    }

    #[test]
    fn a_cpu_that_never_switched_shows_in_the_residual() {
        let before = reading(0, &[(0, false)], 0);
        let after = reading(1000, &[(1000, true)], 0);
        assert_eq!(audit(&before, &after, Used::default(), HIDDEN).residual_ns, 1000);
    }

    #[test]
    fn more_than_the_wall_is_a_negative_residual() {
        let before = reading(0, &[(0, true)], 0);
        let after = reading(1000, &[(600, true)], 0);
        let used = Used {
            process_ns: 500,
            ..Used::default()
        };
        assert_eq!(audit(&before, &after, used, HIDDEN).residual_ns, -100);
    }
}
