//! One function for each question in `queries/`. Values are bound, never put into the text.

use std::time::Duration;

use clickhouse::{RowOwned, RowRead, query::Query};

use super::{
    Store, StoreError,
    answers::{
        AuditRow, BootRow, CoverageRow, ExitRow, HostRow, IdentityRow, InfoRow, IntervalRow, NewestRow,
        StepRow,
    },
    cut::Cut,
    rollups::Step,
};
use crate::model::TimeRange;

/// Which history is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFilter {
    /// The range.
    pub range: TimeRange,
    /// Length of a step.
    pub step_ms: i64,
    /// The host.
    pub host: String,
    /// One process; empty: all of the name.
    pub process_id: String,
    /// Exact name; empty when a process is named.
    pub name: String,
}

/// Which exits are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitFilter {
    /// The range of end times.
    pub range: TimeRange,
    /// Empty: all.
    pub hosts: Vec<String>,
    /// Exact name; empty: all.
    pub name: String,
    /// One process; empty: all.
    pub process_id: String,
    /// 0: all.
    pub max_lifetime_ns: u64,
    /// Only non-zero codes and signals.
    pub failed: bool,
    /// End time and process id of the last exit of the page before.
    pub before: Option<(i64, String)>,
    /// Greatest number of rows.
    pub limit: u32,
}

/// How long an answer of the store may take to arrive: half as long again as it may compute.
const ANSWER_MAX: Duration = Duration::from_secs(15);

pub(super) type Answer<T> = Result<Vec<T>, StoreError>;

pub(super) async fn all<T: RowOwned + RowRead>(what: &'static str, query: Query) -> Answer<T> {
    // A store that stands still keeps no limit of its own.
    match tokio::time::timeout(ANSWER_MAX, query.fetch_all::<T>()).await {
        Ok(answered) => answered.map_err(|error| StoreError::new(what, error)),
        Err(_elapsed) => Err(StoreError::new(what, clickhouse::error::Error::TimedOut)),
    }
}

impl Store {
    /// The newest interval of each host that ends within (`from_ms`, `to_ms`].
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn newest_per_host(&self, from_ms: i64, to_ms: i64, hosts: &[String]) -> Answer<NewestRow> {
        let query = self
            .question(include_str!("../../queries/newest_per_host.sql"))
            .param("from_ms", from_ms)
            .param("to_ms", to_ms)
            .param("hosts", hosts);
        all("newest_per_host", query).await
    }

    /// The ends of the last intervals of a host within (`from_ms`, `to_ms`], newest first.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn interval_ends(
        &self,
        host: &str,
        from_ms: i64,
        to_ms: i64,
        limit: u32,
    ) -> Answer<IntervalRow> {
        let query = self
            .question(include_str!("../../queries/interval_ends.sql"))
            .param("from_ms", from_ms)
            .param("to_ms", to_ms)
            .param("host", host)
            .param("limit", limit);
        all("interval_ends", query).await
    }

    /// What each host observed of a range; hosts last seen between `before_ms` and its start come with nothing.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn coverage(&self, range: TimeRange, before_ms: i64, hosts: &[String]) -> Answer<CoverageRow> {
        let query = ranged(self.question(include_str!("../../queries/coverage.sql")), range)
            .param("before_ms", before_ms)
            .param("hosts", hosts);
        all("coverage", query).await
    }

    /// The same for a cut, or for what of it is read from one of the three; what was before it is read from the samples.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn coverage_cut(&self, cut: &Cut, before_ms: i64, hosts: &[String]) -> Answer<CoverageRow> {
        let mut tables = Vec::new();
        if cut.has_samples() {
            tables.push(parts!("coverage_windows_samples.sql"));
        }
        if cut.has_minutes() {
            tables.push(parts!("coverage_windows_next.sql", "cut_host_minutes.sql"));
        }
        if cut.has_hours() {
            tables.push(parts!("coverage_windows_next.sql", "cut_host_hours.sql"));
        }
        let tables = tables.join(parts!("top_pieces_union.sql"));
        let sql = parts!("coverage_windows.sql").to_owned() + &tables + parts!("coverage_windows_end.sql");
        let query = cut
            .bind(self.question(&cut.text(&sql)))
            .param("before_ms", before_ms)
            .param("hosts", hosts);
        all("coverage_windows", query).await
    }

    /// Where the first intervals of hosts began within a range, milliseconds, as far as samples tell.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn first_seen(&self, range: TimeRange, hosts: &[String]) -> Answer<(String, i64)> {
        let sql = include_str!("../../queries/first_seen.sql");
        all(
            "first_seen",
            ranged(self.question(sql), range).param("hosts", hosts),
        )
        .await
    }

    /// Those of the hosts that had sent something by `until_ms`.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn known_hosts(&self, hosts: &[String], until_ms: i64) -> Answer<String> {
        let query = self
            .question(include_str!("../../queries/known_hosts.sql"))
            .param("until_ms", until_ms)
            .param("hosts", hosts);
        all("known_hosts", query).await
    }

    /// The boots of processes, each by its host and the time of its newest row.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn boot_ids(&self, hosts: &[String], times_ms: &[i64]) -> Answer<BootRow> {
        if hosts.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .question(include_str!("../../queries/boot_ids.sql"))
            .param("hosts", hosts)
            .param("times_ms", times_ms);
        all("boot_ids", query).await
    }

    /// What processes were started as.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn process_infos(&self, process_ids: &[String]) -> Answer<InfoRow> {
        if process_ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .question(include_str!("../../queries/process_infos.sql"))
            .param("process_ids", process_ids);
        all("process_infos", query).await
    }

    /// Who a process is and where it ran; `None` when nobody ever heard of it.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn process_identity(
        &self,
        process_id: &str,
        range: TimeRange,
    ) -> Result<Option<IdentityRow>, StoreError> {
        let query = ranged(
            self.question(include_str!("../../queries/process_identity.sql")),
            range,
        )
        .param("process_id", process_id);
        Ok(all::<IdentityRow>("process_identity", query).await?.pop())
    }

    /// The same of a process whose samples are gone.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn process_identity_hours(
        &self,
        process_id: &str,
        range: TimeRange,
    ) -> Result<Option<IdentityRow>, StoreError> {
        let sql = include_str!("../../queries/process_identity_hours.sql");
        let query = ranged(self.question(sql), range).param("process_id", process_id);
        Ok(all::<IdentityRow>("process_identity_hours", query).await?.pop())
    }

    /// A history from minutes or hours: range and step are made of whole ones.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn history_windows(&self, filter: &HistoryFilter, window: Step) -> Answer<StepRow> {
        let (hosts, processes, peaks) = match window {
            Step::Minute => ("host_samples_1m", "process_samples_1m", "group_peaks_1m"),
            Step::Hour => ("host_samples_1h", "process_samples_1h", "group_peaks_1h"),
        };
        let sql = include_str!("../../queries/history_windows.sql");
        let query = ranged(self.question(sql), filter.range)
            .param("step_ms", filter.step_ms)
            .param("host", &filter.host)
            .param("process_id", &filter.process_id)
            .param("name", &filter.name)
            .param("host_table", hosts)
            .param("process_table", processes)
            .param("peak_table", peaks);
        all("history_windows", query).await
    }

    /// A process or a name over time: the steps of which something is known.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn history(&self, filter: &HistoryFilter) -> Answer<StepRow> {
        let query = ranged(
            self.question(include_str!("../../queries/history.sql")),
            filter.range,
        )
        .param("step_ms", filter.step_ms)
        .param("host", &filter.host)
        .param("process_id", &filter.process_id)
        .param("name", &filter.name);
        all("history", query).await
    }

    /// One page of the processes that ended, newest first.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn exits(&self, filter: &ExitFilter) -> Answer<ExitRow> {
        let (before_ms, before_id) = filter.before.clone().unwrap_or_default();
        let query = exits_of(self.question(parts!("exits_found.sql", "exits.sql")), filter)
            .param("before_ms", before_ms)
            .param("before_id", before_id)
            .param("limit", filter.limit);
        all("exits", query).await
    }

    /// How many exits all pages have together.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn exits_total(&self, filter: &ExitFilter) -> Result<u64, StoreError> {
        let query = exits_of(
            self.question(parts!("exits_found.sql", "exits_total.sql")),
            filter,
        );
        Ok(all::<u64>("exits_total", query).await?.pop().unwrap_or(0))
    }

    /// Hosts that sent something within a range.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn hosts(&self, cut: &Cut, limit: u32) -> Answer<HostRow> {
        let sql = of_hosts(cut, include_str!("../../queries/hosts.sql"));
        let query = cut.bind(self.question(&sql)).param("limit", limit);
        let of_all: &[String] = &[];
        all("hosts", query.param("hosts", of_all)).await
    }

    /// The sums of the audits within a range.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn audit(&self, cut: &Cut, hosts: &[String], limit: u32) -> Answer<AuditRow> {
        let sql = of_hosts(cut, include_str!("../../queries/audit.sql"));
        let query = cut.bind(self.question(&sql)).param("limit", limit);
        all("audit", query.param("hosts", hosts)).await
    }
}

fn ranged(query: Query, range: TimeRange) -> Query {
    query
        .param("start_ms", range.start_ms)
        .param("end_ms", range.end_ms)
}

fn exits_of(query: Query, filter: &ExitFilter) -> Query {
    ranged(query, filter.range)
        .param("hosts", &filter.hosts)
        .param("name", &filter.name)
        .param("process_id", &filter.process_id)
        .param("max_lifetime_ns", filter.max_lifetime_ns)
        .param("failed", filter.failed)
}

/// What a question about hosts is made of, from the tables that the cut names; `question` comes after it.
fn of_hosts(cut: &Cut, question: &str) -> String {
    let mut sql = parts!("host_pieces.sql", "cut_host_samples.sql").to_owned();
    if cut.has_minutes() {
        sql += parts!("host_pieces_windows.sql", "cut_host_minutes.sql");
    }
    if cut.has_hours() {
        sql += parts!("host_pieces_windows.sql", "cut_host_hours.sql");
    }
    sql + question
}
