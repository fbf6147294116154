//! Every reason for which the agent states a loss, by its public name (docs/metrics.md).

use procscope_agent_common::DropReason;

use crate::{queue::QUEUE_FULL, spool, uplink::POISON};

/// The end of a thread or process was never told.
pub const LOST_END: &str = "lost_end";
/// A process or thread beyond the agent's bounds.
pub const TABLE_FULL: &str = "table_full";

/// Reasons that count whole snapshots.
const OF_SNAPSHOTS: [&str; 8] = [
    QUEUE_FULL,
    POISON,
    spool::EVICTED,
    spool::CORRUPT,
    spool::FULL,
    spool::IO,
    spool::SLOW,
    spool::TOO_LONG,
];

/// All reasons.
pub fn all() -> impl Iterator<Item = &'static str> {
    DropReason::ALL
        .into_iter()
        .map(|(_reason, name)| name)
        .chain([LOST_END, TABLE_FULL])
        .chain(OF_SNAPSHOTS)
}

/// Whether a loss counts whole snapshots, so that it is lost once more with the snapshot that states it.
#[must_use]
pub fn is_of_snapshots(reason: &str) -> bool {
    OF_SNAPSHOTS.contains(&reason)
}
