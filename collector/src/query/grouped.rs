//! The groups that used most: as processes.rs has it, but that there are few enough of them to be listed whole.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::future::try_join_all;

use super::{
    Metric, Queries, QueryError,
    lists::{Adds, most_first},
    memory::Learned,
    processes::{observed_ns, top},
};
use crate::{
    model::to_f64,
    store::{
        answers::{CoverageRow, GroupRankRow, TopRow},
        cut::Level,
        group_figures::{self, GroupFigures},
        tops::{GroupsOf, Peaks, TopFilter, Winners},
    },
};

/// Groups of hosts that are listed of one level; where there are more, the store adds up who used most.
const LISTED_MAX: u32 = 20_000;

/// Keys of groups, and where they ran; `None`: all.
type Who = Option<BTreeMap<String, BTreeSet<String>>>;

impl Queries {
    /// The rows of a top of groups, and the hosts that `observed` tells of.
    pub(super) async fn grouped(
        &self,
        filter: &TopFilter,
        metric: Metric,
        groups: GroupsOf,
        observed: impl Future<Output = Result<Vec<CoverageRow>, QueryError>>,
        learned: &Learned,
    ) -> Result<(Vec<TopRow>, Vec<CoverageRow>), QueryError> {
        let levels: Vec<_> = filter.cut.levels().collect();
        let (who, coverage) = self
            .who(filter, metric, groups, &levels, observed, learned)
            .await?;
        let of_levels = levels
            .iter()
            .map(|level| self.parts(filter, *level, groups, &who, learned));
        let instants = async {
            match groups.peaks {
                Peaks::Instants => Ok(self.store.instant_peaks(filter).await?),
                Peaks::Stored | Peaks::Members => Ok(Vec::new()),
            }
        };
        let (parts, instants) = tokio::try_join!(try_join_all(of_levels), instants)?;
        let mut sums = BTreeMap::<String, BTreeMap<String, GroupFigures>>::new();
        for part in parts.iter().flatten().flat_map(|parts| parts.iter().cloned()) {
            let hosts = sums.entry(part.member_of.clone()).or_default();
            let sum = match hosts.remove(&part.ran_on) {
                Some(sum) => sum.and(part),
                None => part,
            };
            hosts.insert(sum.ran_on.clone(), sum);
        }
        for peak in instants {
            let groups = sums.values_mut();
            for sum in groups.filter_map(|hosts| hosts.get_mut(&peak.ran_on)) {
                (sum.peak_bytes, sum.peak_descriptors) = (peak.peak_bytes, peak.peak_descriptors);
            }
        }
        let observed = observed_ns(&coverage);
        let newest: HashMap<_, _> = coverage
            .iter()
            .map(|row| (row.host.as_str(), row.newest_ms))
            .collect();
        let rows = sums.into_iter().filter_map(|(key, hosts)| {
            let seen = hosts.into_values().filter_map(|sum| {
                let host = sum.ran_on.as_str();
                let (observed_ns, newest_ms) = (*observed.get(host)?, *newest.get(host)?);
                Some((sum.at(newest_ms), observed_ns))
            });
            let seen: Vec<_> = seen.collect();
            (!seen.is_empty()).then(|| group_figures::row(key, &seen))
        });
        Ok((top(rows, metric, filter.limit), coverage))
    }

    /// Who stands in the top: users are few, and everything as one group is one.
    async fn who(
        &self,
        filter: &TopFilter,
        metric: Metric,
        groups: GroupsOf,
        levels: &[Level],
        observed: impl Future<Output = Result<Vec<CoverageRow>, QueryError>>,
        learned: &Learned,
    ) -> Result<(Who, Vec<CoverageRow>), QueryError> {
        if matches!(groups.group_by, "user" | "all") {
            return Ok((None, observed.await?));
        }
        if levels.len() == 1 || metric == Metric::PeakMemory {
            let (who, coverage) = tokio::try_join!(self.winning(filter, groups), observed)?;
            return Ok((who, coverage));
        }
        let lists = levels
            .iter()
            .map(|level| self.group_list(filter, *level, groups, learned));
        let (lists, coverage) = tokio::try_join!(try_join_all(lists), observed)?;
        let most = usize::try_from(LISTED_MAX).unwrap_or(usize::MAX);
        if lists.iter().any(|list| list.len() > most) {
            return Ok((self.winning(filter, groups).await?, coverage));
        }
        let rows = lists.iter().flat_map(|list| list.iter());
        let who = chosen(rows, Adds::of(metric), &observed_ns(&coverage), filter.limit);
        Ok((Some(who), coverage))
    }

    /// Who used most in all of a cut.
    async fn winning(&self, filter: &TopFilter, groups: GroupsOf) -> Result<Who, QueryError> {
        let rows = self.store.winning_groups(filter, groups).await?;
        let named = rows
            .into_iter()
            .map(|row| (row.id, row.member_hosts.into_iter().collect()));
        Ok(Some(named.collect()))
    }

    /// What all groups used in a level of a cut of what ranks them.
    async fn group_list(
        &self,
        filter: &TopFilter,
        level: Level,
        groups: GroupsOf,
        learned: &Learned,
    ) -> Result<Arc<Vec<GroupRankRow>>, QueryError> {
        let lasting = filter.cut.lasting(level).map(|(windows, digest)| {
            let (metric, named) = (filter.metric, of_names(filter));
            (
                format!("list {windows} {named} {metric} {}", groups.group_by),
                digest,
            )
        });
        if let Some((question, digest)) = &lasting
            && let Some(list) = self.memory.get_recent(question, *digest)
        {
            return Ok(list);
        }
        let of_level = TopFilter {
            cut: filter.cut.only(level),
            limit: LISTED_MAX + 1,
            ..filter.clone()
        };
        let list = Arc::new(self.store.ranked_groups(&of_level, groups).await?);
        if let Some((question, digest)) = lasting {
            let bytes = list.iter().map(GroupRankRow::bytes).sum();
            learned.add(question, digest, Arc::clone(&list), bytes);
        }
        Ok(list)
    }

    /// What these used in a level of a cut.
    async fn parts(
        &self,
        filter: &TopFilter,
        level: Level,
        groups: GroupsOf,
        who: &Who,
        learned: &Learned,
    ) -> Result<Vec<Arc<Vec<GroupFigures>>>, QueryError> {
        let lasting = filter.cut.lasting(level);
        let question = |windows: &str, key: Option<&str>| {
            format!("figures {windows} {} {groups:?} {key:?}", of_names(filter))
        };
        let mut keys: Vec<_> = match who {
            None => vec![None],
            Some(who) => who.keys().map(|key| Some(key.as_str())).collect(),
        };
        let mut parts = Vec::new();
        if let Some((windows, digest)) = &lasting {
            keys.retain(|key| {
                let known = self.memory.get_recent(&question(windows, *key), *digest);
                let is_new = known.is_none();
                parts.extend(known);
                is_new
            });
        }
        if keys.is_empty() {
            return Ok(parts);
        }
        let of_level = TopFilter {
            cut: filter.cut.only(level),
            ..filter.clone()
        };
        let these = who.as_ref().map(|who| Winners {
            ids: keys.iter().flatten().map(|key| (*key).to_owned()).collect(),
            hosts: keys
                .iter()
                .flatten()
                .flat_map(|key| who[*key].iter().cloned())
                .collect(),
        });
        let mut answered = HashMap::<Option<&str>, Vec<GroupFigures>>::new();
        for part in self.store.group_figures(&of_level, groups, these).await? {
            let key = keys
                .iter()
                .find(|key| key.is_none_or(|key| key == part.member_of));
            if let Some(key) = key {
                answered.entry(*key).or_default().push(part);
            }
        }
        for key in keys {
            let part = Arc::new(answered.remove(&key).unwrap_or_default());
            if let Some((windows, digest)) = &lasting {
                let bytes = part.iter().map(GroupFigures::bytes).sum();
                learned.add(question(windows, key), *digest, Arc::clone(&part), bytes);
            }
            parts.push(part);
        }
        Ok(parts)
    }
}

/// Of which hosts and processes, as a part of a question.
fn of_names(filter: &TopFilter) -> String {
    let TopFilter {
        hosts,
        name_contains,
        name_prefix,
        name_regex,
        ..
    } = filter;
    format!("{hosts:?} {name_contains:?} {name_prefix:?} {name_regex:?}")
}

/// Those that used most of what is listed, and where they ran.
fn chosen<'a>(
    rows: impl Iterator<Item = &'a GroupRankRow>,
    adds: Adds,
    observed: &HashMap<&str, u64>,
    limit: u32,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut used = BTreeMap::<&str, BTreeMap<&str, (f64, f64)>>::new();
    for row in rows {
        let hosts = used.entry(&row.member_of).or_default();
        let sum = hosts.entry(&row.ran_on).or_default();
        (sum.0, sum.1) = (sum.0 + row.score, sum.1 + row.cpu_ns);
    }
    let mut ranked: Vec<_> = used
        .into_iter()
        .map(|(key, hosts)| {
            let of_hosts = hosts.iter().filter_map(|(host, (score, cpu_ns))| {
                let observed_ns = to_f64(*observed.get(host)?);
                let figure = match adds {
                    Adds::Share => score / observed_ns,
                    Adds::Sum | Adds::Greatest => *score,
                };
                Some((figure, cpu_ns / observed_ns))
            });
            let rank = of_hosts.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            (rank, key, hosts)
        })
        .collect();
    // By key where they are equal: the map is in that order.
    ranked.sort_by(|a, b| most_first(a.0, b.0));
    ranked.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let who = ranked.into_iter().map(|(_rank, key, hosts)| {
        let hosts = hosts.into_keys().map(str::to_owned).collect();
        (key.to_owned(), hosts)
    });
    who.collect()
}
