//! How long the tables keep rows, and how much room their disks have.

use tracing::info;

use super::{Store, StoreError};
use crate::retention::Retention;

/// A table, the column by which it expires, and which days are its own.
type Kept = (&'static str, &'static str, fn(&Retention) -> u32);

const TABLES: [Kept; 11] = [
    ("process_samples", "time", |kept| kept.samples_days),
    ("process_exits", "time", |kept| kept.samples_days),
    ("host_samples", "time", |kept| kept.samples_days),
    ("process_samples_1m", "window", |kept| kept.minutes_days),
    ("host_samples_1m", "window", |kept| kept.minutes_days),
    ("group_peaks_1m", "window", |kept| kept.minutes_days),
    ("group_peaks_1h", "window", |kept| kept.hours_days),
    ("group_samples_1m", "window", |kept| kept.minutes_days),
    ("group_samples_1h", "window", |kept| kept.hours_days),
    ("process_samples_1h", "window", |kept| kept.hours_days),
    ("host_samples_1h", "window", |kept| kept.hours_days),
];

#[derive(Debug, clickhouse::Row, serde::Deserialize)]
struct TtlRow {
    name: String,
    days: u32,
}

impl Store {
    /// Gives each table the retention it should have, where it differs. What is stored already goes when it would have
    /// gone before.
    ///
    /// # Errors
    /// When the store refused or did not answer.
    pub async fn keep(&self, retention: Retention) -> Result<(), StoreError> {
        let rows = self
            .server
            .query_raw(include_str!("../../queries/table_ttls.sql"))
            .param("database", &self.database)
            .fetch_all::<TtlRow>()
            .await
            .map_err(|error| StoreError::new("table_ttls", error))?;
        for (table, column, days) in TABLES {
            let days = days(&retention);
            if rows.iter().any(|row| row.name == table && row.days == days) {
                continue;
            }
            self.client
                .query_raw(include_str!("../../queries/modify_ttl.sql"))
                .param("table", table)
                .param("column", column)
                .param("days", days)
                .with_setting("materialize_ttl_after_modify", "0")
                .execute()
                .await
                .map_err(|error| StoreError::new("modify_ttl", error))?;
            info!(table, days, "retention changed, for rows that come from now on");
        }
        Ok(())
    }

    /// Bytes that are free on that disk of the store which has least.
    ///
    /// # Errors
    /// When the store refused the question or did not answer.
    pub async fn free_bytes(&self) -> Result<u64, StoreError> {
        self.server
            .query_raw(include_str!("../../queries/free_bytes.sql"))
            .fetch_one::<u64>()
            .await
            .map_err(|error| StoreError::new("free_bytes", error))
    }
}
