//! Watches the store: brings its tables up to date at start, and says whether it answers.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    clock,
    retention::{Retention, Room},
    self_stats::SelfStats,
    store::{Store, StoreError},
};

/// How often a store that does not answer is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// How often we say what we wait for.
const SAY_EVERY: u32 = 6;

/// How often a store that answered is asked whether it still does, and how much room it has.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_secs(10);

/// Waits for the store, migrates it, and keeps `ready` true to its state. Returns only when the tables are not those
/// that this collector writes, which no waiting mends.
pub(crate) async fn keep_ready(
    store: Store,
    url: String,
    retention: Retention,
    stats: Arc<SelfStats>,
    ready: watch::Sender<bool>,
    room: watch::Sender<Room>,
) -> StoreError {
    let mut tries: u32 = 0;
    while let Err(error) = prepare(&store, retention).await {
        if matches!(error, StoreError::Schema { .. }) {
            return error;
        }
        if tries.is_multiple_of(SAY_EVERY) {
            warn!(
                store = url,
                error = error.chain(),
                remedy = error.remedy(),
                "waiting for the store"
            );
        }
        tries = tries.wrapping_add(1);
        tokio::time::sleep(RETRY_EVERY).await;
    }
    info!(store = url, "the store is ready");
    set(&stats, &ready, true);
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let answered = match tokio::time::timeout(PROBE_MAX, store.free_bytes()).await {
            Ok(Ok(free)) => {
                stats.disk_free(free);
                judge(free, retention.free_bytes_min, &room);
                true
            }
            Ok(Err(error)) => {
                if *ready.borrow() {
                    warn!(store = url, error = error.chain(), "the store does not answer");
                }
                false
            }
            Err(_elapsed) => false,
        };
        set(&stats, &ready, answered);
    }
}

fn set(stats: &SelfStats, ready: &watch::Sender<bool>, now: bool) {
    stats.store_ready(now);
    ready.send_if_modified(|was| std::mem::replace(was, now) != now);
}

async fn prepare(store: &Store, retention: Retention) -> Result<(), StoreError> {
    store.migrate(clock::now_ms()).await?;
    store.check_columns().await?;
    store.keep(retention).await
}

/// Says when the store's disk gets too full, and when it has room again.
fn judge(free_bytes: u64, floor_bytes: u64, room: &watch::Sender<Room>) {
    let now = room.borrow().next(free_bytes, floor_bytes);
    let changed = room.send_if_modified(|was| std::mem::replace(was, now) != now);
    match (changed, now) {
        (false, _) => {}
        (true, Room::Little) => warn!(
            free_bytes,
            floor_bytes,
            "the disk of the store is almost full: agents keep what they measure until there is room"
        ),
        (true, Room::Enough) => info!(free_bytes, "the disk of the store has room again"),
    }
}
