//! What used most: processes, or groups of them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    AskedRange, Coverage, Queries, QueryError, check_hosts, check_limit, check_text,
    coverage::coverage,
    memory::Learned,
    windows::{Attempt, answerable, floors},
};
use crate::{
    model::TimeRange,
    store::{
        answers::{InfoRow, TopRow},
        parts::Parts,
        rollups::Step,
        tops::{GroupsOf, Peaks, TopFilter},
    },
};

/// Rows of a top without a limit.
pub(crate) const LIMIT: u32 = 10;

/// Rows a top may have.
pub(crate) const LIMIT_MAX: u32 = 1_000;

/// Members of a group without a limit.
pub(crate) const MEMBERS: u32 = 100;

/// What to rank by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words of the contract")]
pub enum Metric {
    Cpu,
    Memory,
    PeakMemory,
    Runqueue,
    Io,
    Faults,
    Switches,
}

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words of the contract")]
pub enum GroupBy {
    Process,
    Command,
    Container,
    Pod,
    User,
    Host,
}

/// A top as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopQuery {
    /// Empty: all.
    pub hosts: Vec<String>,
    /// What to rank by.
    pub metric: Metric,
    /// 0: the default.
    pub limit: u32,
    /// What a row stands for.
    pub group_by: GroupBy,
    /// `None`: the last intervals.
    pub range: Option<AskedRange>,
    /// 0: the default.
    pub last_intervals: u32,
    /// Part of the name.
    pub name_contains: String,
}

/// A top.
#[derive(Debug, Clone, PartialEq)]
pub struct Top {
    /// What it covers.
    pub range: TimeRange,
    /// How much of that was seen.
    pub coverage: Coverage,
    /// The rows, most first; a process with what it was started as, where that is known.
    pub rows: Vec<(TopRow, Option<InfoRow>)>,
}

/// A group as it was asked for, by the begin of names, by an expression, or by its name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupsQuery {
    /// Begin of the names.
    pub base: String,
    /// RE2 expression.
    pub regex: String,
    /// Name of a configured group, in place of both.
    pub group: String,
    /// Empty: all.
    pub hosts: Vec<String>,
    /// `None`: the last intervals.
    pub range: Option<AskedRange>,
    /// Greatest number of members; 0: the default.
    pub limit: u32,
}

/// A group: its total and its members.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// What it covers.
    pub range: TimeRange,
    /// How much of that was seen.
    pub coverage: Coverage,
    /// All members as one; `None`: no process matched.
    pub total: Option<TopRow>,
    /// The members by name, most CPU first.
    pub members: Vec<TopRow>,
}

impl GroupsQuery {
    /// One of the three says which names belong to the group.
    fn check_names(&self) -> Result<(), QueryError> {
        let (base, regex, group) = (
            !self.base.is_empty(),
            !self.regex.is_empty(),
            !self.group.is_empty(),
        );
        let (field, reason) = match (base, regex, group) {
            (false, false, false) => (
                "base",
                "is empty, and so are regex and group: say which names belong to the group",
            ),
            (true, true, _) => ("base", "stands beside regex: ask for one of them"),
            (_, _, true) if base || regex => ("group", "stands beside base or regex: ask for one of them"),
            _ => return Ok(()),
        };
        Err(QueryError::invalid(field, reason))
    }
}

impl Metric {
    fn column(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::PeakMemory => "peak_memory",
            Self::Runqueue => "runqueue",
            Self::Io => "io",
            Self::Faults => "faults",
            Self::Switches => "switches",
        }
    }
}

impl GroupBy {
    /// The word in the store; `None`: by process.
    fn key(self) -> Option<&'static str> {
        match self {
            Self::Process => None,
            Self::Command => Some("command"),
            Self::Container => Some("container"),
            Self::Pod => Some("pod"),
            Self::User => Some("user"),
            Self::Host => Some("host"),
        }
    }
}

impl Queries {
    /// The processes or groups that used most of something.
    ///
    /// # Errors
    /// When the question cannot be answered as it stands, or the store does not answer.
    pub async fn top(&self, query: &TopQuery, now_ms: i64) -> Result<Top, QueryError> {
        let key = query.group_by.key();
        let limit = check_limit("limit", query.limit, LIMIT, LIMIT_MAX)?;
        check_hosts(&query.hosts)?;
        check_text("name_contains", &query.name_contains)?;
        // It holds all questions to the store, and stands in the future of whoever asks.
        let answer = Box::pin(self.answered_top(query, key, limit, now_ms));
        self.turns.top(query, answer).await
    }

    async fn answered_top(
        &self,
        query: &TopQuery,
        key: Option<&'static str>,
        limit: u32,
        now_ms: i64,
    ) -> Result<Top, QueryError> {
        let range = self
            .range_or_intervals(query.range, query.last_intervals, &query.hosts, now_ms)
            .await?;
        let range = answerable(range, self.kept, now_ms);
        let what = TopQuery {
            range: None,
            last_intervals: 0,
            ..query.clone()
        };
        let question = format!("top {range:?} {what:?} {:?}", floors(self.kept, now_ms));
        let ask = |before| self.top_of(query, key, limit, range, before, now_ms);
        self.recalled(
            question,
            (range, AskedRange::ended(query.range)),
            |top| top.rows.iter().map(|(row, _info)| row.bytes()).sum(),
            ask,
        )
        .await
    }

    async fn top_of(
        &self,
        query: &TopQuery,
        key: Option<&'static str>,
        limit: u32,
        range: TimeRange,
        before: Option<Arc<Parts>>,
        now_ms: i64,
    ) -> Result<Top, QueryError> {
        // Peaks of a group are stored for all of its members only.
        let stored_peaks = query.name_contains.is_empty() || query.group_by == GroupBy::Command;
        let every_instant = key.is_some() && !stored_peaks;
        let peaks = if stored_peaks {
            Peaks::Stored
        } else {
            Peaks::Members
        };
        for mut attempt in Attempt::all(before) {
            let cut = self
                .cut(range, &query.hosts, every_instant, &mut attempt, now_ms)
                .await?;
            let filter = TopFilter {
                cut,
                hosts: query.hosts.clone(),
                metric: query.metric.column(),
                limit,
                name_contains: query.name_contains.clone(),
                name_prefix: String::new(),
                name_regex: String::new(),
            };
            let learned = Learned::default();
            let observed = self.coverage_rows(range, &query.hosts, Some((&filter.cut, &learned)), now_ms);
            let (rows, observed) = match key {
                None => self.processes(&filter, query.metric, observed, &learned).await?,
                Some(group_by) => {
                    let groups = GroupsOf { group_by, peaks };
                    self.grouped(&filter, query.metric, groups, observed, &learned)
                        .await?
                }
            };
            let (holds, rows) = tokio::try_join!(
                self.holds(&filter.cut, &query.hosts, &attempt),
                self.with_names(rows, now_ms),
            )?;
            if holds {
                learned.keep(&self.memory);
                return Ok(Top {
                    range,
                    coverage: coverage(&observed, range, &query.hosts),
                    rows,
                });
            }
        }
        Err(QueryError::Busy)
    }

    /// Adds in which boot of their hosts processes ran, and what they were started as, for these few only. Neither changes
    /// while a process lives, but for what it says of itself: that may be told a minute late.
    async fn with_names(
        &self,
        mut rows: Vec<TopRow>,
        now_ms: i64,
    ) -> Result<Vec<(TopRow, Option<InfoRow>)>, QueryError> {
        let minute = u64::try_from(now_ms.div_euclid(Step::Minute.ms())).unwrap_or_default();
        let boot = |id: &str| format!("boot {id}");
        let started = |id: &str, row: &TopRow| format!("started {id} {:?}", row.exec_generation);
        let (mut hosts, mut times_ms) = (BTreeSet::new(), BTreeSet::new());
        let mut unknown = Vec::new();
        let mut infos = HashMap::<String, InfoRow>::new();
        for row in &mut rows {
            let Some(id) = &row.process_id else { continue };
            row.boot_id = self.memory.get(&boot(id), 0);
            if row.boot_id.is_none() {
                hosts.extend(row.member_hosts.iter().cloned());
                times_ms.insert(row.last_time_ms);
            }
            match self.memory.get(&started(id, row), minute) {
                Some(info) => drop(infos.insert(id.clone(), info)),
                None => unknown.push(id.clone()),
            }
        }
        let (hosts, times_ms) = (Vec::from_iter(hosts), Vec::from_iter(times_ms));
        let (boots, new) = tokio::try_join!(
            self.store.boot_ids(&hosts, &times_ms),
            self.store.process_infos(&unknown),
        )?;
        let boots: HashMap<_, _> = boots
            .into_iter()
            .map(|boot| ((boot.host, boot.time_ms), boot.boot_id))
            .collect();
        let mut new: HashMap<_, _> = new.into_iter().map(|info| (info.id.clone(), info)).collect();
        let named = rows.into_iter().map(|mut row| {
            let Some(id) = row.process_id.clone() else {
                return (row, None);
            };
            if row.boot_id.is_none() {
                let host = row.member_hosts.first().cloned().unwrap_or_default();
                row.boot_id = boots.get(&(host, row.last_time_ms)).cloned();
                if let Some(boot_id) = row.boot_id.clone() {
                    let bytes = boot_id.len();
                    self.memory.put(boot(&id), 0, boot_id, bytes);
                }
            }
            let info = infos.remove(&id).or_else(|| {
                let info = new.remove(&id)?;
                let bytes = info.exe.len() + info.cmdline.len() + id.len();
                self.memory.put(started(&id, &row), minute, info.clone(), bytes);
                Some(info)
            });
            (row, info)
        });
        Ok(named.collect())
    }

    /// A group of processes by their names: the total and the members.
    ///
    /// # Errors
    /// When the question cannot be answered as it stands, or the store does not answer.
    pub async fn groups(&self, query: &GroupsQuery, now_ms: i64) -> Result<Groups, QueryError> {
        let limit = check_limit("limit", query.limit, MEMBERS, LIMIT_MAX)?;
        check_hosts(&query.hosts)?;
        check_text("base", &query.base)?;
        check_text("regex", &query.regex)?;
        check_text("group", &query.group)?;
        query.check_names()?;
        let regex = if query.group.is_empty() {
            &query.regex
        } else {
            let known = self.groups.regex(&query.group);
            known.ok_or_else(|| QueryError::NotFound(self.groups.unknown(&query.group)))?
        };
        let _turn = self.turn().await?;
        let range = self
            .range_or_intervals(query.range, 0, &query.hosts, now_ms)
            .await?;
        let range = answerable(range, self.kept, now_ms);
        let asked = format!(
            "groups {range:?} {:?} {regex} {limit} {:?} {:?}",
            query.base,
            query.hosts,
            floors(self.kept, now_ms)
        );
        let bytes = |groups: &Groups| {
            groups
                .total
                .iter()
                .chain(&groups.members)
                .map(TopRow::bytes)
                .sum()
        };
        let ask = |before| self.groups_of(query, regex, limit, range, before, now_ms);
        self.recalled(asked, (range, AskedRange::ended(query.range)), bytes, ask)
            .await
    }

    async fn groups_of(
        &self,
        query: &GroupsQuery,
        regex: &str,
        limit: u32,
        range: TimeRange,
        before: Option<Arc<Parts>>,
        now_ms: i64,
    ) -> Result<Groups, QueryError> {
        let refused = |error: QueryError| match error {
            // CANNOT_COMPILE_REGEXP
            QueryError::Store(error) if error.code() == Some(427) => {
                QueryError::invalid("regex", "is no RE2 expression")
            }
            error => error,
        };
        for mut attempt in Attempt::all(before) {
            let cut = self.cut(range, &query.hosts, false, &mut attempt, now_ms).await?;
            // The peak of the whole group is that of an instant, which nobody stored: samples, where there are.
            let peaks = if cut.has_windows() && self.has_samples(range, now_ms) {
                Peaks::Instants
            } else {
                Peaks::Members
            };
            let filter = TopFilter {
                cut,
                hosts: query.hosts.clone(),
                metric: "cpu",
                limit,
                name_contains: String::new(),
                name_prefix: query.base.clone(),
                name_regex: regex.to_owned(),
            };
            let all = GroupsOf {
                group_by: "all",
                peaks,
            };
            let commands = GroupsOf {
                group_by: "command",
                peaks: Peaks::Stored,
            };
            let learned = Learned::default();
            let observed = self
                .coverage_rows(range, &query.hosts, Some((&filter.cut, &learned)), now_ms)
                .await?;
            let (total, members) = tokio::try_join!(
                self.grouped(
                    &filter,
                    Metric::Cpu,
                    all,
                    std::future::ready(Ok(observed.clone())),
                    &learned
                ),
                self.grouped(
                    &filter,
                    Metric::Cpu,
                    commands,
                    std::future::ready(Ok(observed.clone())),
                    &learned
                ),
            )
            .map_err(refused)?;
            if self.holds(&filter.cut, &query.hosts, &attempt).await? {
                learned.keep(&self.memory);
                return Ok(Groups {
                    range,
                    coverage: coverage(&observed, range, &query.hosts),
                    total: total.0.into_iter().next(),
                    members: members.0,
                });
            }
        }
        Err(QueryError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_said_in_one_way() {
        let check = |base: &str, regex: &str, group: &str, field: Option<&str>| {
            let query = GroupsQuery {
                base: base.to_owned(),
                regex: regex.to_owned(),
                group: group.to_owned(),
                ..GroupsQuery::default()
            };
            let refused = match query.check_names() {
                Err(QueryError::Invalid { field, .. }) => Some(field),
                _ => None,
            };
            assert_eq!(refused, field, "{query:?}");
        };
        check("", "", "", Some("base"));
        check("a", "b", "", Some("base"));
        check("a", "", "c", Some("group"));
        check("", "b", "c", Some("group"));
        check("a", "", "", None);
        check("", "b", "", None);
        check("", "", "c", None);
    }
}
