//! Tops: who used most, and then everything of these few.

use std::collections::BTreeSet;

use clickhouse::query::Query;

use super::{
    Store,
    answers::{GroupRankRow, InstantPeakRow, RankRow, WinnerRow},
    cut::Cut,
    figures::ProcessFigures,
    group_figures::GroupFigures,
    pieces::{Pieces, Whose, named},
    queries::{Answer, all},
};

/// What is asked of a top.
#[derive(Debug, Clone, PartialEq)]
pub struct TopFilter {
    /// The range, and what of it is read from where.
    pub cut: Cut,
    /// Empty: all.
    pub hosts: Vec<String>,
    /// What to rank by: `cpu`, `memory`, `peak_memory`, `runqueue`, `io`, `faults`, `switches`.
    pub metric: &'static str,
    /// Greatest number of rows.
    pub limit: u32,
    /// Part of the name, without regard to case; empty: all.
    pub name_contains: String,
    /// Begin of the name; empty: all.
    pub name_prefix: String,
    /// RE2 expression for the name; empty: all.
    pub name_regex: String,
}

impl TopFilter {
    /// Whether every window of a range has the sums of these groups, and the sums tell all that is asked: who their
    /// members are nobody knows any more, but the names of commands.
    fn has_sums(&self, group_by: &str, peaks: Peaks) -> bool {
        let of_names = matches!(group_by, "command" | "all");
        let all_names =
            self.name_contains.is_empty() && self.name_prefix.is_empty() && self.name_regex.is_empty();
        self.cut.has_sums() && (of_names || all_names) && peaks != Peaks::Members
    }
}

/// Which groups, and where their peaks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupsOf {
    /// `command`, `container`, `pod`, `user`, `host`, or `all` for one group.
    pub group_by: &'static str,
    /// Their peaks.
    pub peaks: Peaks,
}

/// Where the peaks of groups come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peaks {
    /// Of minutes and hours those that are stored: of all members of a group, whatever the filter says.
    Stored,
    /// The members, from what their sums are read from.
    Members,
    /// Of `all` as one group, asked for by itself: the members at each instant, from the samples, whatever the sums are read
    /// from.
    Instants,
}

impl Store {
    /// The processes that used most of what the filter ranks by, as many as it lets through, the most first.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn ranked_processes(&self, filter: &TopFilter) -> Answer<RankRow> {
        let sql = Pieces::processes().text(&filter.cut, &Whose::default())
            + &parts!("top_ranked_processes.sql").replace("SCORE", score(filter.metric));
        all("top_ranked_processes", self.top_of(&sql, filter)).await
    }

    /// Everything of these few. Those of whom there is nothing are not in the answer.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn process_figures(&self, filter: &TopFilter, these: Winners) -> Answer<ProcessFigures> {
        let pieces = Pieces::processes();
        let whose = these.whose(&pieces, "UUID");
        let sql = pieces.text(&filter.cut, &whose) + parts!("top_process_figures.sql");
        all("top_process_figures", these.bind(self.top_of(&sql, filter))).await
    }

    fn top_of(&self, sql: &str, filter: &TopFilter) -> Query {
        filter
            .cut
            .bind(self.question(&filter.cut.text(sql)))
            .param("hosts", &filter.hosts)
            .param("metric", filter.metric)
            .param("limit", filter.limit)
            .param("name_contains", &filter.name_contains)
            .param("name_prefix", &filter.name_prefix)
            .param("name_regex", &filter.name_regex)
    }

    /// What each group used on each host of the figure that ranks, in no order; the metric is none of a peak.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn ranked_groups(&self, filter: &TopFilter, groups: GroupsOf) -> Answer<GroupRankRow> {
        let sql = groups.pieces(filter).text(&filter.cut, &Whose::default())
            + &parts!("top_ranked_groups.sql").replace("SCORE", score(filter.metric));
        all("top_ranked_groups", self.top_of(&sql, filter)).await
    }

    /// The groups that used most in all of a cut, and the hosts where they ran.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn winning_groups(&self, filter: &TopFilter, groups: GroupsOf) -> Answer<WinnerRow> {
        let (pieces, whose) = (groups.pieces(filter), Whose::default());
        let mut sql = pieces.text(&filter.cut, &whose);
        if filter.metric == "peak_memory" {
            sql += parts!("top_groups.sql");
            sql += &groups.peaks(&filter.cut, &whose);
            sql += parts!("top_winning_peaks.sql");
        } else {
            sql += &parts!("top_winning_groups.sql").replace("SCORE", score(filter.metric));
        }
        let query = self.top_of(&sql, filter).param("group_by", groups.group_by);
        all("top_winning_groups", query).await
    }

    /// Everything of these groups, or of all, on each host where they ran; of these few with the hosts that are named.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn group_figures(
        &self,
        filter: &TopFilter,
        groups: GroupsOf,
        these: Option<Winners>,
    ) -> Answer<GroupFigures> {
        let pieces = groups.pieces(filter);
        let whose = these.as_ref().map(|these| these.whose(&pieces, "String"));
        let whose = whose.unwrap_or_default();
        let sql = pieces.text(&filter.cut, &whose)
            + parts!("top_groups.sql")
            + &groups.peaks(&filter.cut, &whose)
            + parts!("top_group_figures.sql");
        let query = these.unwrap_or_default().bind(self.top_of(&sql, filter));
        all("top_group_figures", query.param("group_by", groups.group_by)).await
    }

    /// The peaks of all that matches as one group on each host, from its members at each instant of a range.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn instant_peaks(&self, filter: &TopFilter) -> Answer<InstantPeakRow> {
        all(
            "top_peaks_instants",
            self.top_of(parts!("top_peaks_instants.sql"), filter),
        )
        .await
    }
}

impl GroupsOf {
    /// What makes one of these groups, as a column of the samples.
    fn key(self) -> &'static str {
        match self.group_by {
            "container" => "container_id",
            "pod" => "pod_uid",
            "host" => "host",
            "user" => "toString(uid)",
            "all" => "''",
            _ => "name",
        }
    }

    /// Where the sums of groups are stored, they are read in place of the members.
    fn pieces(self, filter: &TopFilter) -> Pieces {
        if filter.has_sums(self.group_by, self.peaks) {
            Pieces::sums(self.group_by, self.key())
        } else {
            Pieces::members(self.key())
        }
    }

    fn peaks(self, cut: &Cut, whose: &Whose) -> String {
        match self.peaks {
            Peaks::Stored => {}
            Peaks::Members => return parts!("top_peaks_members.sql").to_owned(),
            Peaks::Instants => return parts!("top_peaks_none.sql").to_owned(),
        }
        let mut tables = Vec::new();
        if cut.has_samples() {
            let rows = parts!("top_peaks_samples.sql").replace("GROUP_KEY", self.key());
            let of = named("name") + &whose.sampled;
            tables.push(rows + parts!("cut_samples.sql") + &of + parts!("top_peaks_sampled.sql"));
        }
        if cut.has_minutes() {
            tables.push(parts!("top_peaks_minutes.sql").to_owned() + &whose.grouped);
        }
        if cut.has_hours() {
            tables.push(parts!("top_peaks_hours.sql").to_owned() + &whose.grouped);
        }
        let tables = tables.join(parts!("top_pieces_union.sql"));
        parts!("top_peaks_stored.sql").to_owned() + &tables + parts!("top_peaks_end.sql")
    }
}

/// What a piece has of the figure that ranks; that of peak memory is a peak, all others are added.
fn score(metric: &str) -> &'static str {
    match metric {
        "memory" => "ifNull(s.rss_byte_ns, toUInt128(0))",
        "peak_memory" => "ifNull(s.peak_rss_bytes, 0)",
        "runqueue" => "ifNull(s.runqueue_ns_delta, 0)",
        "io" => "ifNull(s.disk_read_bytes_delta, 0) + ifNull(s.disk_written_bytes_delta, 0)",
        "faults" => "ifNull(s.minor_faults_delta, 0) + ifNull(s.major_faults_delta, 0)",
        "switches" => "ifNull(s.voluntary_switches_delta, 0) + ifNull(s.involuntary_switches_delta, 0)",
        _ => "s.cpu_time_ns_delta",
    }
}

/// Hosts that a statement names: beyond them nearly every row is of one of them.
const WINNER_HOSTS_MAX: usize = 64;

/// Those of whom everything is asked, and where they ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Winners {
    /// Ids of processes, or keys of groups.
    pub ids: Vec<String>,
    /// All hosts of all of them.
    pub hosts: BTreeSet<String>,
}

impl Winners {
    /// Rows lie by hosts: a few hosts are a few of the rows.
    fn whose(&self, pieces: &Pieces, kind: &str) -> Whose {
        let hosts = if self.hosts.len() <= WINNER_HOSTS_MAX {
            "        AND r.host IN {winner_hosts:Array(String)}\n"
        } else {
            ""
        };
        let of = |column: &str| format!("{hosts}        AND r.{column} IN {{winners:Array({kind})}}\n");
        Whose {
            sampled: of(pieces.key),
            windows: of(pieces.windows_key),
            grouped: of("key"),
        }
    }

    fn bind(&self, query: Query) -> Query {
        let few = self.hosts.len() <= WINNER_HOSTS_MAX;
        let hosts: Vec<&String> = self.hosts.iter().filter(|_host| few).collect();
        query.param("winners", &self.ids).param("winner_hosts", hosts)
    }
}
