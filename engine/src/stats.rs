//! How much a statement has read and written.

use std::time::Duration;

/// How much a statement has read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows of the answer.
    pub result_rows: u64,
    /// Rows that came from storage.
    pub read_rows: u64,
    /// Bytes that came from storage.
    pub read_bytes: u64,
    /// Rows written, those of materialized views included.
    pub written_rows: u64,
    /// Bytes written, those of materialized views included.
    pub written_bytes: u64,
}

impl Stats {
    /// What a client reads in `X-ClickHouse-Summary`.
    #[must_use]
    pub fn summary(&self, elapsed: Duration) -> String {
        format!(
            r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","total_rows_to_read":"0","result_rows":"{}","result_bytes":"0","elapsed_ns":"{}"}}"#,
            self.read_rows,
            self.read_bytes,
            self.written_rows,
            self.written_bytes,
            self.result_rows,
            elapsed.as_nanos(),
        )
    }
}
