//! Minutes and hours: which are stale, and their computation inside the store.

use clickhouse::query::Query;

use super::{Store, StoreError};

/// How long one computation may take.
const COMPUTE_SECONDS_MAX: &str = "120";

/// Length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Computed from the samples.
    Minute,
    /// Computed from the minutes.
    Hour,
}

impl Step {
    /// Milliseconds of a window.
    #[must_use]
    pub fn ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    fn stale(self) -> (&'static str, &'static str) {
        match self {
            Self::Minute => ("stale_minutes", include_str!("../../queries/stale_minutes.sql")),
            Self::Hour => ("stale_hours", include_str!("../../queries/stale_hours.sql")),
        }
    }

    /// What computes it, in the order of writing: the row of the host comes last.
    fn computations(self) -> [(&'static str, String); 4] {
        match self {
            Self::Minute => [
                ("process_samples_1m", parts!("rollup_processes_1m.sql").to_owned()),
                ("group_peaks_1m", parts!("rollup_peaks_1m.sql").to_owned()),
                ("group_samples_1m", sums("group_samples_1m", "process_samples_1m")),
                ("host_samples_1m", parts!("rollup_hosts_1m.sql").to_owned()),
            ],
            Self::Hour => [
                ("process_samples_1h", parts!("rollup_processes_1h.sql").to_owned()),
                ("group_peaks_1h", parts!("rollup_peaks_1h.sql").to_owned()),
                ("group_samples_1h", sums("group_samples_1h", "process_samples_1h")),
                ("host_samples_1h", parts!("rollup_hosts_1h.sql").to_owned()),
            ],
        }
    }
}

/// The sums of groups into one table, from the processes of another.
fn sums(groups: &str, processes: &str) -> String {
    let sql = parts!("rollup_groups.sql").replace("INTO GROUPS", &format!("INTO {groups}"));
    sql.replace("FROM PROCESSES", &format!("FROM {processes}"))
}

/// A window of a host that has to be computed.
#[derive(Debug, Clone, PartialEq, Eq, clickhouse::Row, serde::Deserialize)]
pub struct Stale {
    /// The host.
    pub host: String,
    /// Begin of the window, seconds since 1970.
    pub window_s: u32,
    /// Snapshots that are there now.
    pub version: u64,
    /// Rows to read.
    pub rows: u64,
}

impl Stale {
    /// Begin of the window, milliseconds since 1970.
    #[must_use]
    pub fn window_ms(&self) -> i64 {
        i64::from(self.window_s) * 1_000
    }
}

impl Store {
    /// Windows between `from_ms` and `to_ms` that have to be computed, the oldest first, at most `limit`; of all hosts
    /// when none is named.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn stale(
        &self,
        step: Step,
        from_ms: i64,
        to_ms: i64,
        hosts: &[String],
        limit: usize,
    ) -> Result<Vec<Stale>, StoreError> {
        let (what, sql) = step.stale();
        ranged(self.question(sql), from_ms, to_ms)
            .param("hosts", hosts)
            .param("limit", limit)
            .fetch_all::<Stale>()
            .await
            .map_err(|error| StoreError::new(what, error))
    }

    /// Computes windows that lie in one partition. Another computation of them, at the same time or after a crash, does
    /// no harm: the one that saw more wins.
    ///
    /// # Errors
    /// When the store refused or did not answer; then they may be computed or not, and are stale if not.
    pub async fn compute(&self, step: Step, windows: &[Stale]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (
            windows.iter().map(Stale::window_ms).min(),
            windows.iter().map(Stale::window_ms).max(),
        ) else {
            return Ok(());
        };
        let column = |of: fn(&Stale) -> u64| windows.iter().map(of).collect::<Vec<u64>>();
        let hosts: Vec<&str> = windows.iter().map(|stale| stale.host.as_str()).collect();
        for (what, sql) in step.computations() {
            ranged(self.client.query_raw(&sql), first, last + step.ms())
                .param("hosts", &hosts)
                .param("windows", column(|stale| u64::from(stale.window_s)))
                .param("versions", column(|stale| stale.version))
                .with_setting("max_execution_time", COMPUTE_SECONDS_MAX)
                .with_setting("max_memory_usage", super::QUERY_MEMORY_BYTES_MAX)
                .with_setting("insert_deduplicate", "0")
                .execute()
                .await
                .map_err(|error| StoreError::new(what, error))?;
        }
        Ok(())
    }
}

fn ranged(query: Query, from_ms: i64, to_ms: i64) -> Query {
    query.param("from_ms", from_ms).param("to_ms", to_ms)
}
