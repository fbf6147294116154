//! Hosts, and where their CPU time went.

use std::{collections::HashMap, slice, sync::Arc};

use super::{
    AskedRange, Coverage, HOSTS_MAX, Queries, QueryError, check_hosts,
    coverage::coverage,
    memory::TEXTS_BYTES,
    range::HOUR_MS,
    windows::{Attempt, answerable, floors},
};
use crate::{
    model::TimeRange,
    store::{
        answers::{AuditRow, CoverageRow, HostRow},
        parts::Parts,
    },
};

/// The range of hosts without one: the last day.
const RANGE_MS: i64 = 24 * HOUR_MS;

/// Rows an answer may have.
fn limit() -> u32 {
    u32::try_from(HOSTS_MAX).unwrap_or(u32::MAX)
}

/// Hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Hosts {
    /// What it covers.
    pub range: TimeRange,
    /// In the order of names.
    pub hosts: Vec<Host>,
}

/// A host.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// As its newest snapshot describes it.
    pub row: HostRow,
    /// How much of the range it observed.
    pub coverage: Coverage,
}

/// An audit as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// Empty: all.
    pub hosts: Vec<String>,
    /// `None`: the last intervals.
    pub range: Option<AskedRange>,
}

/// Where the CPU time of hosts went.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// What it covers.
    pub range: TimeRange,
    /// How much of that was seen.
    pub coverage: Coverage,
    /// One for each host with its losses, in the order of names.
    pub rows: Vec<(AuditRow, Vec<(String, u64)>)>,
}

/// What each host observed, by its name: an answer may have as many hosts as that.
fn by_host(observed: &[CoverageRow]) -> HashMap<&str, &CoverageRow> {
    observed.iter().map(|row| (&*row.host, row)).collect()
}

impl Queries {
    /// Hosts that sent something within a range.
    ///
    /// # Errors
    /// When the question cannot be answered as it stands, or the store does not answer.
    pub async fn hosts(&self, range: Option<AskedRange>, now_ms: i64) -> Result<Hosts, QueryError> {
        let _turn = self.turn().await?;
        let ended = AskedRange::ended(range);
        let range = self.range_until_newest(range, RANGE_MS, &[], now_ms).await?;
        let range = answerable(range, self.kept, now_ms);
        let question = format!("hosts {range:?} {:?}", floors(self.kept, now_ms));
        let bytes = |hosts: &Hosts| hosts.hosts.len() * (size_of::<Host>() + TEXTS_BYTES);
        let ask = |before| self.answered_hosts(range, before, now_ms);
        self.recalled(question, (range, ended), bytes, ask).await
    }

    async fn answered_hosts(
        &self,
        range: TimeRange,
        before: Option<Arc<Parts>>,
        now_ms: i64,
    ) -> Result<Hosts, QueryError> {
        for mut attempt in Attempt::all(before) {
            let cut = self.cut(range, &[], false, &mut attempt, now_ms).await?;
            let rows = self.store.hosts(&cut, limit()).await?;
            if self.holds(&cut, &[], &attempt).await? {
                return self.with_coverage(range, rows, now_ms).await;
            }
        }
        Err(QueryError::Busy)
    }

    /// Adds how much of the range each host observed.
    async fn with_coverage(
        &self,
        range: TimeRange,
        rows: Vec<HostRow>,
        now_ms: i64,
    ) -> Result<Hosts, QueryError> {
        let observed = self.coverage_rows(range, &[], None, now_ms).await?;
        let observed = by_host(&observed);
        let hosts = rows.into_iter().map(|row| {
            let rows = observed
                .get(&*row.name)
                .map_or(&[][..], |row| slice::from_ref(*row));
            let coverage = coverage(rows, range, slice::from_ref(&row.name));
            Host { row, coverage }
        });
        Ok(Hosts {
            range,
            hosts: hosts.collect(),
        })
    }

    /// Where each CPU-second of each host went.
    ///
    /// # Errors
    /// When the question cannot be answered as it stands, or the store does not answer.
    pub async fn audit(&self, query: &AuditQuery, now_ms: i64) -> Result<Audit, QueryError> {
        check_hosts(&query.hosts)?;
        let _turn = self.turn().await?;
        let range = self
            .range_or_intervals(query.range, 0, &query.hosts, now_ms)
            .await?;
        let range = answerable(range, self.kept, now_ms);
        let question = format!(
            "audit {range:?} {:?} {:?}",
            query.hosts,
            floors(self.kept, now_ms)
        );
        let bytes = |audit: &Audit| audit.rows.len() * (size_of::<AuditRow>() + TEXTS_BYTES);
        let ask = |before| self.answered_audit(range, &query.hosts, before, now_ms);
        self.recalled(question, (range, AskedRange::ended(query.range)), bytes, ask)
            .await
    }

    async fn answered_audit(
        &self,
        range: TimeRange,
        hosts: &[String],
        before: Option<Arc<Parts>>,
        now_ms: i64,
    ) -> Result<Audit, QueryError> {
        for mut attempt in Attempt::all(before) {
            let cut = self.cut(range, hosts, false, &mut attempt, now_ms).await?;
            let rows = self.store.audit(&cut, hosts, limit()).await?;
            if self.holds(&cut, hosts, &attempt).await? {
                return self.with_losses(range, rows, hosts, now_ms).await;
            }
        }
        Err(QueryError::Busy)
    }

    /// Adds what was lost, and how much of the range was seen.
    async fn with_losses(
        &self,
        range: TimeRange,
        rows: Vec<AuditRow>,
        hosts: &[String],
        now_ms: i64,
    ) -> Result<Audit, QueryError> {
        let observed = self.coverage_rows(range, hosts, None, now_ms).await?;
        let of_hosts = by_host(&observed);
        let rows = rows.into_iter().map(|row| {
            let losses = of_hosts.get(&*row.name).into_iter().flat_map(|of_host| {
                let counts = of_host.loss_counts.iter().copied();
                of_host.loss_reasons.iter().cloned().zip(counts)
            });
            let losses = losses.collect();
            (row, losses)
        });
        Ok(Audit {
            range,
            rows: rows.collect(),
            coverage: coverage(&observed, range, hosts),
        })
    }
}
