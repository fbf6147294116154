//! What a stream waits for.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// Between four fifths and all of an age, so that streams that were opened together do not end together.
pub(super) fn spread(age: Duration) -> Duration {
    let byte = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    age / 5 * 4 + age / 5 * byte / 255
}

/// Ends when more is durable; never before the agent is known.
pub(super) async fn changed(durable: Option<watch::Receiver<u64>>) {
    if let Some(mut durable) = durable
        && durable.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Ends when a newer stream takes over; never before the agent is known.
pub(super) async fn rings(replaced: Option<Arc<tokio::sync::Notify>>) {
    match replaced {
        Some(replaced) => replaced.notified().await,
        None => std::future::pending().await,
    }
}
