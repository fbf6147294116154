//! The processes that used most, from lists of those that did in samples, minutes and hours. What of a range are whole
//! minutes and hours stays the same while its ends move, so that what is known of these is asked for once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use futures_util::future::try_join_all;

use super::{
    Metric, Queries, QueryError,
    lists::{Adds, List, Rank, Who, absent, chosen, most_first},
    memory::Learned,
};
use crate::{
    model::to_f64,
    store::{
        answers::{CoverageRow, RankRow, TopRow},
        cut::Level,
        figures::ProcessFigures,
        tops::{TopFilter, Winners},
    },
};

/// Processes of a list for a top of so many rows and for longer ones: what is not in it used less than its last, which
/// is enough to be sure of the top where far fewer processes than this used much.
const LISTED: [(u32, u32); 2] = [(100, 2_000), (u32::MAX, 10_000)];

impl Queries {
    /// The rows of a top of processes, without what is looked up for the few that are shown, and the hosts that `observed`
    /// tells of.
    pub(super) async fn processes(
        &self,
        filter: &TopFilter,
        metric: Metric,
        observed: impl Future<Output = Result<Vec<CoverageRow>, QueryError>>,
        learned: &Learned,
    ) -> Result<(Vec<TopRow>, Vec<CoverageRow>), QueryError> {
        let levels: Vec<_> = filter.cut.levels().collect();
        let (mut of_samples, mut guessed) = (Vec::new(), HashSet::new());
        let (who, coverage, absent) = if levels.len() == 1 {
            let (ranked, coverage) = tokio::try_join!(self.ranked(filter), observed)?;
            (ranked, coverage, HashSet::new())
        } else {
            let likely = self.likely(filter, &levels, Adds::of(metric));
            let lists = levels.iter().map(|level| self.list(filter, *level, learned));
            let (lists, coverage, of_likely) = tokio::try_join!(
                try_join_all(lists),
                observed,
                self.figures(filter, Level::Samples, likely.clone(), learned)
            )?;
            of_samples = of_likely;
            guessed.extend(likely.into_iter().map(|(id, _host)| id));
            let who = match chosen(&lists, Adds::of(metric), &observed_ns(&coverage), filter.limit) {
                Some(who) => who,
                None => self.ranked(filter).await?,
            };
            let absent = absent(&levels, &lists, &who);
            (who, coverage, absent)
        };
        let of_levels = levels.iter().map(|level| {
            let known = |id: &String| *level == Level::Samples && guessed.contains(id);
            let asked = who
                .iter()
                .filter(|(id, _host)| !absent.contains(&(*level, id.clone())) && !known(id));
            self.figures(filter, *level, asked.cloned().collect(), learned)
        });
        let mut parts = try_join_all(of_levels).await?.concat();
        let chosen: HashSet<_> = who.iter().map(|(id, _host)| id).collect();
        parts.extend(of_samples.into_iter().filter(|part| chosen.contains(&part.id)));
        // Of two machines that came to life of one image, both may know the same process.
        let mut sums = BTreeMap::<Who, ProcessFigures>::new();
        for part in parts {
            let part = Arc::unwrap_or_clone(part);
            let who = (part.id.clone(), part.ran_on.clone());
            let sum = match sums.remove(&who) {
                Some(sum) => sum.and(part),
                None => part,
            };
            sums.insert(who, sum);
        }
        let observed = observed_ns(&coverage);
        let rows = sums.into_values().filter_map(|sum| {
            let observed_ns = *observed.get(sum.ran_on.as_str())?;
            Some(sum.row(observed_ns))
        });
        Ok((top(rows, metric, filter.limit), coverage))
    }

    /// Who used most in all of a cut.
    async fn ranked(&self, filter: &TopFilter) -> Result<Vec<Who>, QueryError> {
        let rows = self.store.ranked_processes(filter).await?;
        Ok(rows.into_iter().map(|row| (row.id, row.ran_on)).collect())
    }

    /// Who will stand in the top, going by what is remembered of its minutes and hours: the samples of these are asked for
    /// while it is found out.
    fn likely(&self, filter: &TopFilter, levels: &[Level], adds: Adds) -> Vec<Who> {
        if !levels.contains(&Level::Samples) {
            return Vec::new();
        }
        let mut used = BTreeMap::<&Who, f64>::new();
        let mut lists = Vec::new();
        for level in levels.iter().filter(|level| **level != Level::Samples) {
            let (Some((question, digest)), _limit) = listed(filter, *level) else {
                continue;
            };
            match self.memory.get_recent::<Arc<List>>(&question, digest) {
                Some(list) => lists.push(list),
                None => return Vec::new(),
            }
        }
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let who: Vec<(Who, f64)> = lists
            .iter()
            .flat_map(|list| list.rows.iter())
            .map(|row| ((row.id.clone(), row.ran_on.clone()), row.score))
            .collect();
        for (who, score) in &who {
            let sum = used.entry(who).or_default();
            *sum = match adds {
                Adds::Share | Adds::Sum => *sum + score,
                Adds::Greatest => sum.max(*score),
            };
        }
        let mut ranked: Vec<_> = used.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
            .into_iter()
            .take(limit)
            .map(|(who, _used)| who.clone())
            .collect()
    }

    /// Who used most in a level of a cut.
    async fn list(
        &self,
        filter: &TopFilter,
        level: Level,
        learned: &Learned,
    ) -> Result<Arc<List>, QueryError> {
        let (lasting, limit) = listed(filter, level);
        if let Some((question, digest)) = &lasting
            && let Some(list) = self.memory.get_recent::<Arc<List>>(question, *digest)
        {
            return Ok(list);
        }
        let of_level = TopFilter {
            cut: filter.cut.only(level),
            limit,
            ..filter.clone()
        };
        let rows = self.store.ranked_processes(&of_level).await?;
        let is_whole = rows.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        let list = Arc::new(List { rows, is_whole });
        if let Some((question, digest)) = lasting {
            let bytes = list.rows.iter().map(RankRow::bytes).sum();
            learned.add(question, digest, Arc::clone(&list), bytes);
        }
        Ok(list)
    }

    /// What these used in a level of a cut.
    async fn figures(
        &self,
        filter: &TopFilter,
        level: Level,
        mut who: Vec<Who>,
        learned: &Learned,
    ) -> Result<Vec<Arc<ProcessFigures>>, QueryError> {
        type Known = Vec<Arc<ProcessFigures>>;
        let lasting = filter.cut.lasting(level);
        let question = |windows: &str, id: &str| {
            let TopFilter {
                hosts, name_contains, ..
            } = filter;
            format!("figures {windows} {hosts:?} {name_contains:?} {id}")
        };
        let mut figures = Vec::new();
        if let Some((windows, digest)) = &lasting {
            who.retain(|(id, _host)| {
                let known = self.memory.get_recent::<Known>(&question(windows, id), *digest);
                let is_new = known.is_none();
                figures.extend(known.into_iter().flatten());
                is_new
            });
        }
        if who.is_empty() {
            return Ok(figures);
        }
        let of_level = TopFilter {
            cut: filter.cut.only(level),
            ..filter.clone()
        };
        let these = Winners {
            ids: who.iter().map(|(id, _host)| id.clone()).collect(),
            hosts: who.iter().map(|(_id, host)| host.clone()).collect(),
        };
        let answered = self.store.process_figures(&of_level, these).await?;
        let answered: Vec<_> = answered.into_iter().map(Arc::new).collect();
        if let Some((windows, digest)) = lasting {
            for (id, _host) in &who {
                // That there is nothing of it is worth to be known, too.
                let known: Known = answered.iter().filter(|part| part.id == *id).cloned().collect();
                let bytes = known.iter().map(|part| part.bytes()).sum();
                learned.add(question(&windows, id), digest, known, bytes);
            }
        }
        figures.extend(answered);
        Ok(figures)
    }
}

/// What the list of a level is remembered as, where it lasts, and how long it is at most.
fn listed(filter: &TopFilter, level: Level) -> (Option<(String, u64)>, u32) {
    let listed = LISTED.iter().find(|(rows, _listed)| filter.limit <= *rows);
    let limit = listed.map_or(filter.limit, |(_rows, listed)| *listed);
    let lasting = filter.cut.lasting(level).map(|(windows, digest)| {
        let TopFilter { hosts, metric, .. } = filter;
        let name = &filter.name_contains;
        let question = format!("list {windows} {hosts:?} {metric} {name:?} {limit}");
        (question, digest)
    });
    (lasting, limit)
}

pub(super) fn observed_ns(coverage: &[CoverageRow]) -> HashMap<&str, u64> {
    let observed = coverage.iter().filter(|row| row.observed_ns > 0);
    observed.map(|row| (row.host.as_str(), row.observed_ns)).collect()
}

/// Those of the rows that stand in a top, the most first.
pub(super) fn top(rows: impl Iterator<Item = TopRow>, metric: Metric, limit: u32) -> Vec<TopRow> {
    let mut rows: Vec<_> = rows.collect();
    let id = |row: &TopRow| row.process_id.clone().unwrap_or_else(|| row.name.clone());
    rows.sort_by(|a, b| most_first(rank(a, metric), rank(b, metric)).then_with(|| id(a).cmp(&id(b))));
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    rows
}

/// By what a row of a top stands where it does.
fn rank(row: &TopRow, metric: Metric) -> Rank {
    let both = |a: Option<u64>, b: Option<u64>| to_f64(a.unwrap_or(0)) + to_f64(b.unwrap_or(0));
    let figure = match metric {
        Metric::Cpu => row.avg_cpu_percent,
        Metric::Memory => row.avg_memory_mb.unwrap_or(-1.0),
        Metric::PeakMemory => row.peak_memory_mb.unwrap_or(-1.0),
        Metric::Runqueue => row.runqueue_seconds.unwrap_or(-1.0),
        Metric::Io => both(row.disk_read_bytes, row.disk_written_bytes),
        Metric::Faults => both(row.minor_faults, row.major_faults),
        Metric::Switches => both(row.voluntary_switches, row.involuntary_switches),
    };
    (figure, row.avg_cpu_percent)
}
