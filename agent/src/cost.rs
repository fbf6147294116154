//! What measuring costs the machine in the kernel, and whether that is within the budget. Pure.

use std::collections::BTreeMap;

use procscope_agent_common::CostSlot;
use procscope_proto::v1;

/// The budget is one of minutes: a storm may use a minute's worth beyond it before the hot programs go.
const AHEAD_MAX_NS: u64 = 60_000_000_000;

/// What each program has cost since it was attached.
pub type Costs = BTreeMap<&'static str, CostSlot>;

/// What the kernel's side may cost, and how much more it has cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Parts per million of CPUs x wall.
    pub ppm: u64,
    /// What was spent beyond the budget and not saved since: parts per million x nanoseconds.
    ahead: u128,
}

impl Budget {
    /// Nothing has been spent.
    #[must_use]
    pub fn new(ppm: u64) -> Self {
        Self { ppm, ahead: 0 }
    }

    /// Takes note of an interval. True: it has been too much for too long, the sooner the more it is.
    pub fn is_passed(&mut self, spent_ppm: u64, interval_ns: u64) -> bool {
        let for_interval = |ppm: u64| u128::from(ppm) * u128::from(interval_ns);
        self.ahead = (self.ahead + for_interval(spent_ppm)).saturating_sub(for_interval(self.ppm));
        self.ahead > u128::from(self.ppm) * u128::from(AHEAD_MAX_NS)
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

    /// Seconds after which `budget` is passed at this cost; `None`: not within an hour.
    fn seconds_at(mut budget: Budget, spent_ppm: u64) -> Option<u64> {
        (1..=3_600).find(|_second| budget.is_passed(spent_ppm, 1_000_000_000))
    }

    #[test]
    fn the_more_it_costs_the_sooner_the_budget_is_passed() {
        let fresh = Budget::new(5_000);
        assert_eq!(seconds_at(fresh, 5_000), None);
        assert_eq!(seconds_at(fresh, 6_000), Some(301));
        assert_eq!(seconds_at(fresh, 10_000), Some(61));
        assert_eq!(seconds_at(fresh, 100_000), Some(4));
    }

    #[test]
    fn a_storm_is_forgiven_once_it_is_saved_again_and_nothing_is_saved_ahead() {
        let mut budget = Budget::new(5_000);
        // An hour of nothing gives no more than there was at the beginning.
        assert_eq!(seconds_at(budget, 0), None);
        for _storm in 0..10 {
            for _second in 0..50 {
                assert!(!budget.is_passed(10_000, 1_000_000_000));
            }
            for _second in 0..50 {
                assert!(!budget.is_passed(0, 1_000_000_000));
            }
        }
        assert_eq!(seconds_at(budget, 10_000), Some(61));
    }
}
