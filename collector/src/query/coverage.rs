//! How much of what was asked for an answer has seen.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::future::try_join_all;

use super::{Queries, QueryError, memory::Learned};
use crate::{
    model::{TIME_MS_MAX, TimeRange, ms_to_seconds, ns_to_seconds, to_f64},
    store::{
        answers::CoverageRow,
        cut::{Cut, Level},
    },
};

/// A host that was seen this long before a range belongs to it even when it is silent in it.
const SEEN_BEFORE_MS: i64 = 300_000;

/// Share of a range that was observed, and what was lost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Coverage {
    /// Observed host-seconds / host-seconds of the range, 0 to 1.
    pub share: f64,
    /// Seconds that hosts observed, added up.
    pub observed_host_seconds: f64,
    /// The length of the range for each host, without what lies before the first that was ever seen of it.
    pub total_host_seconds: f64,
    /// Count by reason, in the order of reasons.
    pub losses: Vec<(String, u64)>,
    /// How it was measured, in alphabetical order.
    pub sources: Vec<String>,
}

impl Queries {
    /// What hosts observed of a range, read as `known` says where the answer was, and remembered. A host whose first row lies
    /// inside is looked up in what was before: only one that is new counts from there. When nobody ever heard of any host that was asked for, there is no answer.
    pub(super) async fn coverage_rows(
        &self,
        range: TimeRange,
        hosts: &[String],
        known: Option<(&Cut, &Learned)>,
        now_ms: i64,
    ) -> Result<Vec<CoverageRow>, QueryError> {
        let before_ms = range.start_ms - SEEN_BEFORE_MS;
        let known = known.filter(|(cut, _learned)| cut.has_windows());
        let cut = match known {
            Some((cut, _learned)) => Some(cut.clone()),
            None => self.coverage_cut(range, hosts, now_ms).await?,
        };
        let mut rows = match (&cut, known) {
            (_, Some((cut, learned))) => self.coverage_of_levels(cut, before_ms, hosts, learned).await?,
            (Some(cut), None) => self.store.coverage_cut(cut, before_ms, hosts).await?,
            (None, None) => self.store.coverage(range, before_ms, hosts).await?,
        };
        // A window tells that the first interval began within it, and no more.
        let first_ms = range.start_ms + i64::from(cut.is_none());
        let late = rows.iter().filter(|row| row.first_ms >= first_ms);
        let late: Vec<_> = late.map(|row| row.host.clone()).collect();
        if !late.is_empty() {
            let earlier: BTreeSet<_> = self
                .store
                .known_hosts(&late, before_ms)
                .await?
                .into_iter()
                .collect();
            for row in rows.iter_mut().filter(|row| earlier.contains(&row.host)) {
                row.first_ms = range.start_ms;
            }
            let new: Vec<_> = late.into_iter().filter(|host| !earlier.contains(host)).collect();
            if cut.is_some() && !new.is_empty() {
                let first: HashMap<_, _> = self.store.first_seen(range, &new).await?.into_iter().collect();
                for row in &mut rows {
                    row.first_ms = first.get(&row.host).copied().unwrap_or(row.first_ms);
                }
            }
        }
        if rows.is_empty()
            && !hosts.is_empty()
            && self.store.known_hosts(hosts, TIME_MS_MAX).await?.is_empty()
        {
            return Err(QueryError::NotFound(match hosts {
                [host] => format!("no host {host} is known"),
                hosts => format!("none of the {} hosts is known", hosts.len()),
            }));
        }
        Ok(rows)
    }

    /// The same of each level by itself; what is usual is that of one of them.
    async fn coverage_of_levels(
        &self,
        cut: &Cut,
        before_ms: i64,
        hosts: &[String],
        learned: &Learned,
    ) -> Result<Vec<CoverageRow>, QueryError> {
        // Samples tell of the hosts that were there before.
        let windows = cut.levels().filter(|level| *level != Level::Samples);
        let levels = std::iter::once(Level::Samples).chain(windows);
        let parts = try_join_all(levels.map(|level| async move {
            let lasting = cut.lasting(level);
            let lasting = lasting.map(|(windows, digest)| (format!("coverage {windows} {hosts:?}"), digest));
            if let Some((question, digest)) = &lasting
                && let Some(rows) = self.memory.get_recent::<Arc<Vec<CoverageRow>>>(question, *digest)
            {
                return Ok::<_, QueryError>(rows);
            }
            let rows = Arc::new(
                self.store
                    .coverage_cut(&cut.only(level), before_ms, hosts)
                    .await?,
            );
            if let Some((question, digest)) = lasting {
                let bytes = rows.iter().map(CoverageRow::bytes).sum();
                learned.add(question, digest, Arc::clone(&rows), bytes);
            }
            Ok(rows)
        }))
        .await?;
        let mut sums = BTreeMap::<String, CoverageRow>::new();
        for row in parts.iter().flat_map(|rows| rows.iter()) {
            match sums.get_mut(&row.host) {
                Some(sum) => sum.add(row),
                None => drop(sums.insert(row.host.clone(), row.clone())),
            }
        }
        Ok(sums.into_values().collect())
    }

    pub(super) async fn coverage(
        &self,
        range: TimeRange,
        hosts: &[String],
        now_ms: i64,
    ) -> Result<Coverage, QueryError> {
        let rows = self.coverage_rows(range, hosts, None, now_ms).await?;
        Ok(coverage(&rows, range, hosts))
    }
}

/// Adds hosts up. A host that was asked for by name counts even when nobody has ever heard of it.
pub(super) fn coverage(rows: &[CoverageRow], range: TimeRange, asked: &[String]) -> Coverage {
    let mut losses = BTreeMap::<&str, u64>::new();
    let mut sources = BTreeSet::new();
    let known: BTreeSet<_> = rows.iter().map(|row| &row.host).collect();
    let unknown: BTreeSet<_> = asked.iter().filter(|host| !known.contains(host)).collect();
    let mut total_host_seconds = range.seconds() * to_f64(u64::try_from(unknown.len()).unwrap_or(0));
    let mut observed_host_seconds = 0.0;
    for row in rows {
        let seconds = ms_to_seconds(range.end_ms - row.first_ms.clamp(range.start_ms, range.end_ms));
        total_host_seconds += seconds;
        // Two agents under one host name observe the same seconds.
        observed_host_seconds += ns_to_seconds(row.observed_ns).min(seconds);
        for (reason, count) in row.loss_reasons.iter().zip(&row.loss_counts) {
            let sum = losses.entry(reason).or_default();
            *sum = sum.saturating_add(*count);
        }
        sources.extend(row.all_sources.iter().cloned());
    }
    Coverage {
        share: if total_host_seconds > 0.0 {
            observed_host_seconds / total_host_seconds
        } else {
            0.0
        },
        observed_host_seconds,
        total_host_seconds,
        losses: losses
            .into_iter()
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect(),
        sources: sources.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: TimeRange = TimeRange {
        start_ms: 0,
        end_ms: 10_000,
    };

    fn row(host: &str, seconds: u64) -> CoverageRow {
        CoverageRow {
            host: host.to_owned(),
            first_ms: -60_000,
            newest_ms: 10_000,
            observed_ns: seconds * 1_000_000_000,
            usual_interval_ns: 1,
            loss_reasons: vec!["ring_full".to_owned()],
            loss_counts: vec![2],
            all_sources: vec!["ebpf".to_owned()],
        }
    }

    fn check(rows: &[CoverageRow], asked: &[&str], observed: f64, total: f64) {
        let asked: Vec<_> = asked.iter().map(|host| (*host).to_owned()).collect();
        let coverage = coverage(rows, RANGE, &asked);
        assert!(
            (coverage.observed_host_seconds - observed).abs() < 1e-9,
            "{coverage:?}"
        );
        assert!((coverage.total_host_seconds - total).abs() < 1e-9, "{coverage:?}");
    }

    #[test]
    fn a_silent_host_lowers_the_share() {
        check(&[row("a", 10), row("b", 0)], &[], 10.0, 20.0);
    }

    #[test]
    fn a_new_host_counts_from_its_first_interval() {
        let new = CoverageRow {
            first_ms: 6_000,
            ..row("new", 3)
        };
        check(&[row("a", 10), new], &[], 13.0, 14.0);
    }

    #[test]
    fn a_host_asked_for_counts_although_unknown() {
        check(&[row("a", 10)], &["a", "ghost"], 10.0, 20.0);
    }

    #[test]
    fn a_host_observes_no_second_twice() {
        check(&[row("a", 17)], &[], 10.0, 10.0);
    }

    #[test]
    fn nothing_at_all_is_no_share() {
        assert!(coverage(&[], RANGE, &[]).share.abs() < 1e-9);
    }

    #[test]
    fn losses_and_sources_are_joined() {
        let coverage = coverage(&[row("a", 1), row("b", 1)], RANGE, &[]);
        assert_eq!(coverage.losses, [("ring_full".to_owned(), 4)]);
        assert_eq!(coverage.sources, ["ebpf"]);
    }
}
