//! Batches into the store: frozen once, then inserted until the store has them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use uuid::Uuid;

use super::{INSERT_TIMEOUT, Store, StoreError, StoredIn, Table, native, rows};
use crate::{
    fault::{self, Point},
    model::{AgentEpoch, Snapshot},
};

/// Epochs of one question for what is stored. Whatever it asks for costs the store some hundredths of a CPU second, and
/// each epoch makes it read a thousandth of the rows by mistake (`epoch_bloom`).
pub const LEDGERS_MAX: usize = 50;

/// The rows of one table, frozen: a retry sends these very bytes under this very token, so the store takes them once.
#[derive(Debug, Clone)]
pub struct Frozen {
    what: &'static str,
    sql: String,
    /// In pieces that follow one another.
    block: Vec<Bytes>,
    rows: usize,
    token: String,
    /// The snapshots with rows in it, by epoch.
    snapshots: BTreeMap<AgentEpoch, BTreeSet<u64>>,
}

impl Frozen {
    /// Rows in the order of the table's key cost the store a quarter less. They are of these snapshots, each of which
    /// has one at least.
    fn new<T>(
        what: &'static str,
        columns: &[native::Column<T>],
        fenced: bool,
        snapshots: &[&Snapshot],
        rows: &[rows::Row<'_, T>],
    ) -> Self {
        let mut of: BTreeMap<AgentEpoch, BTreeSet<u64>> = BTreeMap::new();
        for snapshot in snapshots {
            of.entry(snapshot.agent).or_default().insert(snapshot.seq);
        }
        Self {
            what,
            sql: statement(what, columns, fenced),
            block: native::encode(columns, rows),
            rows: rows.len(),
            // Made with the bytes and never again: a token with other data would be dropped as a success.
            token: Uuid::new_v4().to_string(),
            snapshots: of,
        }
    }

    /// Rows in it.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// The statement that takes a block. A fenced one stores nothing when another collector has taken one of its epochs.
fn statement<T>(what: &str, columns: &[native::Column<T>], fenced: bool) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    let names = names.join(", ");
    if !fenced || fault::without("fence") {
        return format!("INSERT INTO {what} ({names}) FORMAT Native");
    }
    let structure: Vec<_> = columns
        .iter()
        .map(|column| format!("{} {}", column.name, column.kind.type_name()))
        .collect();
    let structure = structure.join(", ").replace('\'', "\\'");
    let fence = include_str!("../../queries/fence.sql");
    format!("INSERT INTO {what} ({names})\nSELECT {names}\nFROM input('{structure}')\n{fence}FORMAT Native")
}

/// Freezes the rows of one table of those snapshots that the table does not have; `None` when there are none.
pub fn freeze<'a>(
    table: Table,
    snapshots: impl IntoIterator<Item = (&'a Snapshot, StoredIn)>,
) -> Option<Frozen> {
    let mut missing: Vec<&Snapshot> = snapshots
        .into_iter()
        .filter(|(_, stored)| !stored.is_complete() && !stored.contains(table))
        .map(|(snapshot, _)| snapshot)
        .filter(|snapshot| table.rows_of(snapshot) > 0)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let what = table.name();
    Some(match table {
        Table::ProcessSamples => {
            let rows = rows::sorted_samples(&mut missing);
            Frozen::new(what, rows::PROCESS_SAMPLES, true, &missing, &rows)
        }
        Table::ProcessExits => {
            let rows = rows::sorted(&missing, |s| &s.exits, rows::order_exits);
            Frozen::new(what, rows::PROCESS_EXITS, true, &missing, &rows)
        }
        Table::Processes => {
            let rows = rows::sorted(&missing, |s| &s.processes, rows::order_processes);
            Frozen::new(what, rows::PROCESSES, true, &missing, &rows)
        }
        Table::HostSamples => {
            let rows = rows::sorted(&missing, |_s| &[()], rows::order_hosts);
            Frozen::new(what, rows::HOST_SAMPLES, true, &missing, &rows)
        }
    })
}

/// Freezes one refused snapshot for the table of those that are set aside.
#[must_use]
pub fn freeze_set_aside(snapshot: &Snapshot, reason: &str) -> Frozen {
    let reason = reason.to_owned();
    let row = [(snapshot, &reason)];
    Frozen::new("set_aside", rows::SET_ASIDE, true, &[snapshot], &row)
}

/// Freezes how far epochs are stored: the newest snapshot of each, and the number up to which all are stored.
#[must_use]
pub fn freeze_marks(marks: &[(Snapshot, u64)], now_ms: i64) -> Option<Frozen> {
    let marks: Vec<_> = marks
        .iter()
        .map(|(snapshot, durable_seq)| {
            (
                snapshot,
                rows::AgentMark {
                    durable_seq: *durable_seq,
                    updated_at_ms: now_ms,
                },
            )
        })
        .collect();
    let mut rows: Vec<_> = marks.iter().map(|(snapshot, mark)| (*snapshot, mark)).collect();
    rows.sort_unstable_by_key(|(snapshot, _mark)| snapshot.agent);
    let snapshots: Vec<_> = rows.iter().map(|(snapshot, _mark)| *snapshot).collect();
    (!rows.is_empty()).then(|| Frozen::new("agents", rows::AGENTS, false, &snapshots, &rows))
}

/// The columns of every table that we write, with their types.
pub(super) fn columns_written() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    fn of<T>(columns: &[native::Column<T>]) -> Vec<(&'static str, &'static str)> {
        columns
            .iter()
            .map(|column| (column.name, column.kind.type_name()))
            .collect()
    }
    vec![
        (Table::ProcessSamples.name(), of(rows::PROCESS_SAMPLES)),
        (Table::ProcessExits.name(), of(rows::PROCESS_EXITS)),
        (Table::Processes.name(), of(rows::PROCESSES)),
        (Table::HostSamples.name(), of(rows::HOST_SAMPLES)),
        ("set_aside", of(rows::SET_ASIDE)),
        ("agents", of(rows::AGENTS)),
    ]
}

/// A run of numbers without gaps that a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    place: u8,
    first: u64,
    last: u64,
}

/// Which snapshots of an epoch the store holds: what a collector that takes an epoch over has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    runs: Vec<Run>,
}

impl Ledger {
    /// The tables that hold the snapshot with this number.
    #[must_use]
    pub fn stored_in(&self, seq: u64) -> StoredIn {
        let mut stored = StoredIn::default();
        for run in self
            .runs
            .iter()
            .filter(|run| (run.first..=run.last).contains(&seq))
        {
            match Table::ALL.get(usize::from(run.place)) {
                Some(table) => stored.insert(*table),
                None => stored.set_aside(),
            }
        }
        stored
    }
}

impl Store {
    /// Inserts a frozen block. Inserting it again is harmless within the deduplication window of the table.
    ///
    /// # Errors
    /// When the store refused it or did not answer; in the latter case it may hold the rows or not.
    pub async fn insert(&self, frozen: &Frozen) -> Result<(), StoreError> {
        let mut insert = self
            .client
            .insert_formatted_with(frozen.sql.clone())
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", &frozen.token)
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("max_execution_time", INSERT_TIMEOUT.as_secs().to_string())
            .with_setting("log_comment", self.identity.comment())
            .with_setting("param_instance", self.identity.instance.to_string())
            .with_setting("param_since", self.identity.since().to_string())
            .with_timeouts(Some(INSERT_TIMEOUT), Some(INSERT_TIMEOUT));
        let sent = async {
            for piece in &frozen.block {
                insert.send(piece.clone()).await?;
            }
            fault::pass(Point::Body);
            fault::while_passing(Point::Commit, insert.end()).await
        };
        sent.await.map_err(|error| StoreError::new(frozen.what, error))
    }

    /// Whether the store holds a block whose insert ended in a way that nobody told, once nothing can add it any more.
    ///
    /// # Errors
    /// When the store refused the question or did not answer.
    pub async fn holds(&self, frozen: &Frozen) -> Result<bool, StoreError> {
        self.settle_own().await?;
        // Of each snapshot: what another collector has taken and stored since proves nothing of the rest.
        let table = Table::ALL.into_iter().find(|table| table.name() == frozen.what);
        let asked: Vec<(AgentEpoch, u64)> = frozen
            .snapshots
            .iter()
            .filter_map(|(agent, seqs)| Some((*agent, *seqs.first()?)))
            .collect();
        for part in asked.chunks(LEDGERS_MAX) {
            let ledgers = self.ledgers(part).await?;
            let is_stored = |agent: &AgentEpoch, seq: u64| {
                let stored = ledgers.get(agent).map(|ledger| ledger.stored_in(seq));
                stored
                    .is_some_and(|stored| table.map_or(stored.is_set_aside(), |table| stored.contains(table)))
            };
            for (agent, _from_seq) in part {
                let seqs = frozen.snapshots.get(agent).into_iter().flatten();
                if !seqs.copied().all(|seq| is_stored(agent, seq)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Reads which snapshots of some epochs, at most `LEDGERS_MAX`, are stored, each from one number on. Who takes an
    /// epoch over waits before, until nothing of others can add to them (`settle`). An epoch of which nothing is stored
    /// is not in the answer.
    ///
    /// # Errors
    /// When the store refused the question or did not answer.
    pub async fn ledgers(
        &self,
        asked: &[(AgentEpoch, u64)],
    ) -> Result<HashMap<AgentEpoch, Ledger>, StoreError> {
        #[derive(clickhouse::Row, serde::Deserialize)]
        struct RunRow {
            agent: String,
            epoch: u64,
            place: u8,
            first_seq: u64,
            last_seq: u64,
        }
        let what = "stored_seqs";
        let agents: Vec<String> = asked
            .iter()
            .map(|(agent, _)| agent.agent_id.to_string())
            .collect();
        // Two agents may have drawn the same number.
        let mut from: BTreeMap<u64, u64> = BTreeMap::new();
        for (agent, from_seq) in asked {
            let least = from.entry(agent.epoch).or_insert(*from_seq);
            *least = (*least).min(*from_seq);
        }
        let runs = self
            .question(include_str!("../../queries/stored_seqs.sql"))
            .param("agents", agents)
            .param("epochs", from.keys().collect::<Vec<_>>())
            .param("from_seqs", from.values().collect::<Vec<_>>())
            .fetch_all::<RunRow>()
            .await
            .map_err(|error| StoreError::new(what, error))?;
        let mut ledgers: HashMap<AgentEpoch, Ledger> = HashMap::new();
        for row in runs {
            let agent_id = row.agent.parse().map_err(|error| {
                StoreError::new(what, clickhouse::error::Error::Custom(format!("{error}")))
            })?;
            let agent = AgentEpoch {
                agent_id,
                epoch: row.epoch,
            };
            ledgers.entry(agent).or_default().runs.push(Run {
                place: row.place,
                first: row.first_seq,
                last: row.last_seq,
            });
        }
        Ok(ledgers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixtures::{sample, snapshot};

    #[test]
    fn only_what_a_table_lacks_is_frozen() {
        let (one, two) = (snapshot(1), snapshot(2));
        let mut stored = StoredIn::default();
        stored.insert(Table::ProcessSamples);
        let both = || [(&one, stored), (&two, StoredIn::default())];
        assert_eq!(freeze(Table::ProcessSamples, both()).unwrap().rows(), 1);
        assert_eq!(freeze(Table::HostSamples, both()).unwrap().rows(), 2);
        assert!(freeze(Table::ProcessExits, both()).is_none());
        assert!(freeze(Table::ProcessSamples, [(&one, stored)]).is_none());
    }

    #[test]
    fn a_token_belongs_to_one_block() {
        let snapshot = snapshot(1);
        let frozen = || freeze(Table::ProcessSamples, [(&snapshot, StoredIn::default())]).unwrap();
        assert_ne!(frozen().token, frozen().token);
        let one = frozen();
        assert_eq!(one.token, one.clone().token);
    }

    #[test]
    fn the_order_of_arrival_does_not_reach_the_store() {
        let (mut ab, mut ba) = (snapshot(1), snapshot(1));
        ab.samples = vec![sample("a"), sample("b")];
        ba.samples = vec![sample("b"), sample("a")];
        let block = |snapshot: &Snapshot| {
            freeze(Table::ProcessSamples, [(snapshot, StoredIn::default())])
                .unwrap()
                .block
        };
        assert_eq!(block(&ab), block(&ba));
    }

    #[test]
    fn a_ledger_knows_each_table_for_itself() {
        let run = |place, first, last| Run { place, first, last };
        let ledger = Ledger {
            runs: vec![run(0, 1, 5), run(3, 1, 3), run(4, 5, 5)],
        };
        assert!(ledger.stored_in(3).is_complete());
        assert!(!ledger.stored_in(4).is_complete() && ledger.stored_in(4).contains(Table::ProcessSamples));
        assert!(ledger.stored_in(5).is_complete(), "set aside");
        assert_eq!(ledger.stored_in(6), StoredIn::default());
    }
}
