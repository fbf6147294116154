//! CPU time, exact in sum, split into user and system by the kernel's ticks. Pure.

use procscope_agent_common::ThreadTotals;

/// CPU time by where it was used, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuSplit {
    /// In user space.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
}

impl CpuSplit {
    /// The same for greater totals: the exact sum, split by the ratio of ticks, neither part ever less than before.
    pub(super) fn grown_to(self, totals: ThreadTotals) -> Self {
        let cpu_ns = totals
            .cpu_time_ns
            .max(self.user_ns.saturating_add(self.system_ns));
        let (user, system) = (
            u128::from(totals.user_ticks_ns),
            u128::from(totals.system_ticks_ns),
        );
        let ticks = user + system;
        let system_ns = (u128::from(cpu_ns) * system).checked_div(ticks).unwrap_or(0);
        let system_ns = u64::try_from(system_ns).unwrap_or(cpu_ns);
        let system_ns = system_ns.max(self.system_ns).min(cpu_ns - self.user_ns);
        Self {
            user_ns: cpu_ns - system_ns,
            system_ns,
        }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
        }
    }
}
