//! What measuring costs the machine in the kernel, and whether that is within the budget. Pure.

use std::collections::BTreeMap;

use procscope_agent_common::CostSlot;
use procscope_proto::v1;

/// Intervals in a row that must cost too much before the hot programs go: one storm is no reason.
const OVER_MAX: u32 = 5;

/// What each program has cost since it was attached.
pub type Costs = BTreeMap<&'static str, CostSlot>;

/// What the kernel's side may cost, and for how long it has cost more.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Parts per million of CPUs x wall.
    pub ppm: u64,
    over: u32,
}

impl Budget {
    /// Nothing has been spent.
    #[must_use]
    pub fn new(ppm: u64) -> Self {
        Self { ppm, over: 0 }
    }

    /// Takes note of an interval. True: it has been too much for too long.
    pub fn is_passed(&mut self, spent_ppm: u64) -> bool {
        self.over = if spent_ppm > self.ppm { self.over + 1 } else { 0 };
        self.over >= OVER_MAX
    }
}

/// What a run costs beside what its program does, nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Constants {
    /// Reading the clock twice: it stands in runs that are timed, and in no other.
    pub clock_ns: u64,
    /// Being attached; `None`: not measured.
    pub attach_ns: Option<u64>,
}

/// The cost of one interval, program by program, and its share of `wall_ns` in parts per million. A run costs what
/// timed runs took without the clock, and being attached.
#[must_use]
pub fn cost(
    before: &Costs,
    after: &Costs,
    constants: Constants,
    wall_ns: u64,
) -> (Vec<v1::ProgramCost>, u64) {
    let mut programs = Vec::with_capacity(after.len());
    let mut kernel_ns = 0_u64;
    for (name, now) in after {
        let then = before.get(name).copied().unwrap_or_default();
        let runs = now.runs.saturating_sub(then.runs);
        let timed = CostSlot {
            timed_runs: now.timed_runs.saturating_sub(then.timed_runs),
            timed_ns: now.timed_ns.saturating_sub(then.timed_ns),
            ..CostSlot::default()
        };
        // An interval without a timed run is taken to be like the time before it.
        let like = if timed.timed_runs > 0 { timed } else { *now };
        let clock_ns = like.timed_runs.saturating_mul(constants.clock_ns);
        let timed_ns = like.timed_ns.saturating_sub(clock_ns);
        let run_ns = u128::from(runs) * u128::from(timed_ns) / u128::from(like.timed_runs.max(1));
        let run_ns = u64::try_from(run_ns).unwrap_or(u64::MAX);
        kernel_ns = kernel_ns
            .saturating_add(run_ns)
            .saturating_add(runs.saturating_mul(constants.attach_ns.unwrap_or(0)));
        if now.runs > 0 {
            programs.push(v1::ProgramCost {
                name: (*name).to_owned(),
                runs,
                run_ns,
            });
        }
    }
    let ppm = u128::from(kernel_ns) * 1_000_000 / u128::from(wall_ns.max(1));
    (programs, u64::try_from(ppm).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(runs: u64, timed_runs: u64, timed_ns: u64) -> Costs {
        let slot = CostSlot {
            runs,
            timed_runs,
            timed_ns,
            reserved: 0,
        };
        Costs::from([("sched_switch", slot)])
    }

    #[test]
    fn all_runs_are_like_the_timed_ones_and_pay_for_being_attached() {
        let (programs, ppm) = cost(
            &costs(1_000, 1, 999),
            &costs(11_000, 11, 1_999),
            Constants {
                clock_ns: 50,
                attach_ns: Some(90),
            },
            2_000_000_000,
        );
        assert_eq!(programs[0].runs, 10_000);
        assert_eq!(programs[0].run_ns, 10_000 * 50);
        assert_eq!(ppm, 10_000 * (50 + 90) * 1_000_000 / 2_000_000_000);
    }

    #[test]
    fn an_interval_without_a_timed_run_is_like_the_ones_before() {
        let (programs, _ppm) = cost(
            &costs(1_024, 1, 60),
            &costs(1_124, 1, 60),
            Constants::default(),
            1_000_000_000,
        );
        assert_eq!((programs[0].runs, programs[0].run_ns), (100, 6_000));
    }

    #[test]
    fn only_what_costs_too_much_for_long_passes_the_budget() {
        let mut budget = Budget::new(5_000);
        for spent in [6_000, 6_000, 6_000, 6_000, 4_000, 6_000, 6_000, 6_000, 6_000] {
            assert!(!budget.is_passed(spent));
        }
        assert!(budget.is_passed(6_000));
    }
}
