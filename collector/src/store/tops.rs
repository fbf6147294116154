//! Tops: who used most, and then everything of these few.

use std::collections::BTreeSet;

use clickhouse::query::Query;

use super::{
    Store, StoreError,
    answers::{RankRow, TopRow, WinnerRow},
    cut::Cut,
    figures::ProcessFigures,
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

/// Where the peaks of groups come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peaks {
    /// Of minutes and hours those that are stored: of all members of a group, whatever the filter says.
    Stored,
    /// The members, from what their sums are read from.
    Members,
    /// The members at each instant, from the samples, whatever the sums are read from; of `all` as one group.
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

    /// Everything of these few, each with the host where it ran. Those of whom there is nothing are not in the answer.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn process_figures(
        &self,
        filter: &TopFilter,
        these: impl IntoIterator<Item = (&str, &str)>,
    ) -> Answer<ProcessFigures> {
        let pieces = Pieces::processes();
        let mut winners = Winners::default();
        for (id, host) in these {
            winners.ids.push(id.to_owned());
            winners.hosts.insert(host.to_owned());
        }
        let whose = winners.whose(&pieces, "UUID");
        let sql = pieces.text(&filter.cut, &whose) + parts!("top_process_figures.sql");
        all("top_process_figures", winners.bind(self.top_of(&sql, filter))).await
    }

    /// Who stands in a top; `None`: nobody.
    async fn winners(
        &self,
        what: &'static str,
        sql: &str,
        filter: &TopFilter,
    ) -> Result<Option<Winners>, StoreError> {
        let rows = all::<WinnerRow>(what, self.top_of(sql, filter)).await?;
        let mut winners = Winners::default();
        for row in rows {
            winners.ids.push(row.id);
            winners.hosts.extend(row.member_hosts);
        }
        Ok(Some(winners).filter(|winners| !winners.ids.is_empty()))
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

    /// The groups that used most; `group_by` is `command`, `container`, `pod`, `user`, `host`, or `all` for one group.
    ///
    /// Where the sums of groups are stored, they are read in place of the members. Of what may be many, first who they
    /// are and then everything of these few, on the hosts where they ran. Users are few, so are commands once they are
    /// summed up, and a peak is not known before all is.
    ///
    /// # Errors
    /// As every question: no answer, a refusal, a limit passed.
    pub async fn top_groups(
        &self,
        filter: &TopFilter,
        group_by: &'static str,
        peaks: Peaks,
    ) -> Answer<TopRow> {
        let sums = filter.has_sums(group_by, peaks);
        let (key, many) = match group_by {
            "container" => ("container_id", true),
            "pod" => ("pod_uid", true),
            "host" => ("host", true),
            "user" => ("toString(uid)", false),
            "all" => ("''", false),
            _ => ("name", !sums),
        };
        let pieces = if sums {
            Pieces::sums(group_by, key)
        } else {
            Pieces::members(key)
        };
        let mut these = Winners::default();
        let mut whose = Whose::default();
        if many && filter.metric != "peak_memory" {
            let sql = pieces.text(&filter.cut, &whose)
                + &parts!("top_winning_groups.sql").replace("SCORE", score(filter.metric));
            let Some(winners) = self.winners("top_winning_groups", &sql, filter).await? else {
                return Ok(Vec::new());
            };
            these = winners;
            whose = these.whose(&pieces, "String");
        }
        let mut sql = pieces.text(&filter.cut, &whose) + parts!("top_groups.sql");
        match peaks {
            Peaks::Stored => {
                sql += &parts!("top_peaks_stored.sql").replace("GROUP_KEY", key);
                sql += parts!("cut_samples.sql");
                sql += &named("name");
                sql += &whose.sampled;
                sql += parts!("top_peaks_sampled.sql");
                if filter.cut.has_minutes() {
                    sql += parts!("top_peaks_minutes.sql");
                    sql += &whose.grouped;
                }
                if filter.cut.has_hours() {
                    sql += parts!("top_peaks_hours.sql");
                    sql += &whose.grouped;
                }
                sql += parts!("top_peaks_end.sql");
            }
            Peaks::Members => sql += parts!("top_peaks_members.sql"),
            Peaks::Instants => sql += parts!("top_peaks_instants.sql"),
        }
        sql += parts!("top_groups_summed.sql", "top_ranked.sql");
        let query = these.bind(self.top_of(&sql, filter)).param("group_by", group_by);
        all("top_groups", query).await
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
#[derive(Debug, Default)]
struct Winners {
    ids: Vec<String>,
    hosts: BTreeSet<String>,
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
