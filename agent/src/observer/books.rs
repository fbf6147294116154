//! What an interval came to, beside its rows: what was lost in it, and what it used in all.

use procscope_agent_common::DropReason;
use procscope_proto::v1;

use crate::{
    audit::Used,
    fold::Folded,
    losses::{LOST_END, TABLE_FULL},
    sample::Told,
};

/// What was lost in the interval, by reason. `drops`: what the kernel's side has counted by its end.
pub(super) fn losses(drops: &[u64], before: &[u64], folded: &Folded) -> Vec<v1::Loss> {
    let mut losses: Vec<v1::Loss> = DropReason::ALL
        .iter()
        .zip(drops.iter().zip(before))
        .map(|((_reason, name), (now, before))| (*name, now.saturating_sub(*before)))
        .chain([(LOST_END, folded.lost_ends), (TABLE_FULL, folded.overflow)])
        .filter(|(_name, count)| *count > 0)
        .map(|(name, count)| v1::Loss {
            reason: name.to_owned(),
            count,
        })
        .collect();
    losses.sort_by(|a, b| a.reason.cmp(&b.reason));
    losses
}

/// What processes and kernel threads used, and how much is not certain.
pub(super) fn used(told: &Told, losses: &[v1::Loss], torn_reads: u64) -> Used {
    Used {
        process_ns: told.process_ns,
        kthread_ns: told.kthread_ns,
        lost_events: losses
            .iter()
            .filter(|loss| loss.reason != "slot_collision")
            .map(|loss| loss.count)
            .sum(),
        torn_reads,
    }
}
