//! The rows that a top is made of, from the tables that a cut names.

use super::cut::Cut;

/// Whose pieces, beside those that the filter lets through; by default all.
#[derive(Debug, Default)]
pub(super) struct Whose {
    /// As a condition on the samples.
    pub(super) sampled: String,
    /// On minutes and hours.
    pub(super) windows: String,
    /// On rows of groups, by their key.
    pub(super) grouped: String,
}

/// What the pieces stand for, and which tables have them.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Column of the samples by which they are told apart.
    pub(super) key: &'static str,
    /// That of minutes and hours.
    pub(super) windows_key: &'static str,
    /// What they have beside their figures, from the samples, and from minutes and hours.
    columns: [String; 2],
    /// Tables of minutes and of hours.
    tables: [&'static str; 2],
    /// Which of these rows, and the name in them.
    of_windows: String,
}

const PROCESSES: [&str; 2] = ["process_samples_1m", "process_samples_1h"];
const GROUPS: [&str; 2] = ["group_samples_1m", "group_samples_1h"];

impl Pieces {
    /// Processes.
    pub(super) fn processes() -> Self {
        Self::of_processes("process_id", parts!("top_pieces_processes.sql").to_owned())
    }

    /// Processes as members of groups; `key` is what makes a group.
    pub(super) fn members(key: &'static str) -> Self {
        Self::of_processes(key, members(key))
    }

    /// The stored sums of groups, and members where samples are read. Everything of a name as one group is what the
    /// commands of this name are.
    pub(super) fn sums(group_by: &'static str, key: &'static str) -> Self {
        let (stored_by, windows_key) = match group_by {
            "all" => ("command", key),
            _ => (group_by, "key"),
        };
        let sums = parts!("top_pieces_sums.sql").replace("GROUP_KEY", windows_key);
        Self {
            key,
            windows_key,
            columns: [members(key), sums],
            tables: GROUPS,
            of_windows: parts!("top_pieces_grouped.sql").replace("STORED_BY", stored_by) + &named("key"),
        }
    }

    fn of_processes(key: &'static str, columns: String) -> Self {
        Self {
            key,
            windows_key: key,
            columns: [columns.clone(), columns],
            tables: PROCESSES,
            of_windows: named("name"),
        }
    }

    /// `observed` and `pieces`.
    pub(super) fn text(&self, cut: &Cut, whose: &Whose) -> String {
        let ([sampled, columns], [minutes, hours]) = (&self.columns, self.tables);
        let (mut observed, mut pieces) = (Vec::new(), Vec::new());
        let mut sql = parts!("top_cut.sql").to_owned();
        let piece =
            |columns: &str| parts!("top_pieces_select.sql", "top_pieces_figures.sql").to_owned() + columns;
        let of_windows = self.of_windows.clone() + &whose.windows;
        if cut.has_samples() {
            sql += parts!(
                "top_snapshots.sql",
                "cut_host_samples.sql",
                "top_snapshots_end.sql"
            );
            observed.push(parts!("top_observed_samples.sql"));
            let rows = parts!("top_pieces_samples.sql", "cut_samples.sql");
            pieces.push(piece(sampled) + rows + &named("name") + &whose.sampled);
        }
        if cut.has_minutes() {
            observed.push(parts!("top_observed_windows.sql", "cut_host_minutes.sql"));
            let rows = parts!("top_pieces_minutes.sql").replace("MINUTES", minutes);
            pieces.push(piece(columns) + &rows + &of_windows);
        }
        if cut.has_hours() {
            observed.push(parts!("top_observed_windows.sql", "cut_host_hours.sql"));
            let rows = parts!("top_pieces_hours.sql").replace("HOURS", hours);
            pieces.push(piece(columns) + &rows + &of_windows);
        }
        let union = parts!("top_pieces_union.sql");
        sql += parts!("top_observed.sql");
        sql += &observed.join(union);
        sql += parts!("top_pieces.sql");
        sql += &pieces.join(union);
        sql + parts!("top_pieces_end.sql")
    }
}

/// The filter; `name` is the column that has the name.
pub(super) fn named(name: &str) -> String {
    parts!("top_pieces_filter.sql").replace("NAME", name)
}

fn members(key: &str) -> String {
    parts!("top_pieces_members.sql").replace("GROUP_KEY", key)
}
