//! Batches into the store: retries what may pass, sets aside what cannot, acknowledges what is stored.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tracing::{error, info, warn};

use crate::{
    batch::{Batch, Batcher, Limits, Pending},
    clock,
    fault::{self, Point},
    ingest::{Agents, QUEUE_BYTES_MAX},
    model::{AgentEpoch, Snapshot},
    process_metrics::ProcessMetrics,
    rollup::Touched,
    self_stats::SelfStats,
    store::{
        Store, StoreError, Table,
        insert::{Frozen, freeze, freeze_marks, freeze_set_aside},
        leases::EPOCHS_MAX,
        rollups::Step,
    },
};

/// A snapshot with its share of the memory budget.
pub type Incoming = Pending<OwnedSemaphorePermit>;

/// Rows of a batch: about half of what may wait, so that one grows while another is inserted.
const BATCH_ROWS_MAX: usize = 200_000;

/// With so many rows a batch waits for more: below, what an insert costs by itself is no matter.
const BATCH_ROWS_MANY: usize = 20_000;

/// How much longer it waits then. A sample is seen within 3 s still.
const BATCH_WAITS_OF_MANY: u32 = 3;

/// Encoded bytes of a batch: half of what may wait.
const BATCH_BYTES_MAX: usize = QUEUE_BYTES_MAX / 2;

/// Days that may be open at once: each is an insert of its own.
const BATCH_DAYS_MAX: usize = 8;

/// The first wait after a failure; it doubles up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest wait between two tries: short, because data that cannot be seen waits behind it.
const RETRY_LAST: Duration = Duration::from_secs(3);

/// How often a failure that goes on is said again.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// How often it is said that snapshots are too old.
const TOO_OLD_SAID_EVERY: Duration = Duration::from_mins(1);

/// How often the table `agents` is told how far each is stored. People read it; the collector asks the rows themselves.
const MARKS_EVERY: Duration = Duration::from_secs(30);

/// Why a snapshot is not stored though nothing is wrong with it.
const TOO_OLD: &str = "too old: samples of its time are kept no more (retention.samples_days)";

/// How an insert ended.
#[derive(Debug)]
enum Outcome {
    /// The store has it.
    Stored,
    /// Another collector has taken one of its epochs: nothing of it is stored.
    Fenced,
    /// The store refuses the data for good.
    Refused(StoreError),
}

/// Who is told of each snapshot that is stored.
#[derive(Debug)]
pub struct Noted {
    touched: Arc<Touched>,
    process_metrics: ProcessMetrics,
}

impl Noted {
    /// Those who know which minutes have new rows, and what processes have used.
    #[must_use]
    pub fn new(touched: Arc<Touched>, process_metrics: ProcessMetrics) -> Self {
        Self {
            touched,
            process_metrics,
        }
    }
}

/// Takes snapshots from a queue to the store, in order, one insert at a time.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    agents: Arc<Agents>,
    stats: Arc<SelfStats>,
    noted: Noted,
    /// Milliseconds for which samples are kept.
    kept_ms: i64,
    ready: watch::Sender<bool>,
    said_too_old: Option<Instant>,
    marks: HashMap<AgentEpoch, (Snapshot, u64)>,
    marks_due: Instant,
}

impl Writer {
    /// A writer that says through `ready` whether the store takes inserts, and tells `noted` what it wrote.
    /// What is older than `kept_ms` is set aside, for the store would drop it at once.
    #[must_use]
    pub fn new(
        store: Store,
        agents: Arc<Agents>,
        stats: Arc<SelfStats>,
        noted: Noted,
        kept_ms: i64,
        ready: watch::Sender<bool>,
    ) -> Self {
        let marks_due = Instant::now() + MARKS_EVERY;
        Self {
            store,
            agents,
            stats,
            noted,
            kept_ms,
            ready,
            said_too_old: None,
            marks: HashMap::new(),
            marks_due,
        }
    }

    /// Writes until the queue is closed and empty.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Incoming>, flush_interval: Duration) {
        let mut batcher = Batcher::new(Limits {
            rows_max: BATCH_ROWS_MAX,
            rows_many: BATCH_ROWS_MANY,
            bytes_max: BATCH_BYTES_MAX,
            age_max: flush_interval,
            age_max_of_many: flush_interval * BATCH_WAITS_OF_MANY,
            days_max: BATCH_DAYS_MAX,
        });
        loop {
            let due = batcher.due();
            let wait = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into());
            let (closed, open) = tokio::select! {
                incoming = queue.recv() => match incoming {
                    Some(incoming) => (batcher.add(incoming, Instant::now()), true),
                    None => (batcher.close(), false),
                },
                () = wait, if due.is_some() => (batcher.tick(Instant::now()), true),
            };
            for batch in closed {
                self.write(batch).await;
            }
            if !open {
                self.write_marks().await;
                return;
            }
            if self.marks_due <= Instant::now() {
                self.write_marks().await;
            }
        }
    }

    /// Stores a batch in all tables, whatever it takes, and acknowledges its snapshots. What another collector has taken
    /// meanwhile is dropped, and the rest begins again with new bytes.
    async fn write(&mut self, mut batch: Batch<OwnedSemaphorePermit>) {
        let oldest_ms = clock::now_ms().saturating_sub(self.kept_ms);
        let too_old = |pending: &mut Incoming| pending.snapshot.time_ms < oldest_ms;
        for pending in batch.snapshots.extract_if(.., too_old).collect::<Vec<_>>() {
            self.leave_out(pending).await;
        }
        loop {
            batch = self.without_lost(batch);
            if batch.snapshots.is_empty() {
                return;
            }
            let frozen = tokio::task::spawn_blocking(move || {
                let frozen: Vec<_> = Table::ALL
                    .into_iter()
                    .map(|table| (table, freeze_batch(table, &batch)))
                    .collect();
                (batch, frozen)
            });
            let frozen = match frozen.await {
                Ok((whole, frozen)) => {
                    batch = whole;
                    frozen
                }
                Err(panicked) => {
                    // A bug of ours. The snapshots were not acknowledged, so their agents still have them.
                    error!(%panicked, "could not encode a batch");
                    return;
                }
            };
            fault::pass(Point::Frozen);
            match self.insert_all(&mut batch, &frozen).await {
                Outcome::Stored => {
                    fault::pass(Point::Ack);
                    let stored = batch.snapshots.into_iter();
                    return stored.for_each(|pending| self.acknowledge(pending));
                }
                Outcome::Fenced => self.find_lost(&batch.snapshots).await,
                Outcome::Refused(refused) => {
                    let error = refused.chain();
                    warn!(
                        error,
                        "the store refused a batch: trying its snapshots one by one"
                    );
                    return self.write_one_by_one(batch).await;
                }
            }
        }
    }

    /// Inserts into one table after the other, and notes which have the batch.
    async fn insert_all(
        &self,
        batch: &mut Batch<OwnedSemaphorePermit>,
        frozen: &[(Table, Option<Frozen>)],
    ) -> Outcome {
        for (table, frozen) in frozen {
            if let Some(frozen) = frozen {
                match self.insert(frozen, table.name()).await {
                    Outcome::Stored => {}
                    other => return other,
                }
            }
            for pending in &mut batch.snapshots {
                pending.stored.insert(*table);
            }
        }
        Outcome::Stored
    }

    /// Stores each snapshot by itself, so that one that the store refuses for good stops no other.
    async fn write_one_by_one(&mut self, batch: Batch<OwnedSemaphorePermit>) {
        for mut pending in batch.snapshots {
            loop {
                if self.agents.is_lost(pending.snapshot.agent) {
                    self.hand_over(pending);
                    break;
                }
                match self.write_one(&mut pending).await {
                    Outcome::Stored => {
                        self.acknowledge(pending);
                        break;
                    }
                    Outcome::Fenced => self.find_lost(std::slice::from_ref(&pending)).await,
                    Outcome::Refused(refused) => {
                        let snapshot = &pending.snapshot;
                        let reason = refused.chain();
                        error!(agent = %snapshot.agent, seq = snapshot.seq, host = %snapshot.host, reason, "snapshot set aside");
                        if self.set_aside(&pending, &reason).await {
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn write_one(&self, pending: &mut Incoming) -> Outcome {
        for table in Table::ALL {
            if let Some(frozen) = freeze(table, [(&pending.snapshot, pending.stored)]) {
                match self.insert(&frozen, table.name()).await {
                    Outcome::Stored => {}
                    other => return other,
                }
            }
            pending.stored.insert(table);
        }
        Outcome::Stored
    }

    /// Drops what another collector has taken.
    fn without_lost(&self, batch: Batch<OwnedSemaphorePermit>) -> Batch<OwnedSemaphorePermit> {
        let (lost, snapshots): (Vec<_>, Vec<_>) = batch
            .snapshots
            .into_iter()
            .partition(|pending| self.agents.is_lost(pending.snapshot.agent));
        for pending in lost {
            self.hand_over(pending);
        }
        Batch { snapshots }
    }

    fn hand_over(&self, pending: Incoming) {
        let Pending { snapshot, guard, .. } = pending;
        self.stats.handed_over(snapshot.encoded.len());
        self.agents.dropped(snapshot.agent, snapshot.seq);
        drop(guard);
    }

    /// Asks the store which of these epochs this collector holds no more.
    async fn find_lost(&self, snapshots: &[Incoming]) {
        let epochs: HashSet<AgentEpoch> = snapshots.iter().map(|pending| pending.snapshot.agent).collect();
        let epochs: Vec<AgentEpoch> = epochs.into_iter().collect();
        let mut any = false;
        for part in epochs.chunks(EPOCHS_MAX) {
            let held = loop {
                match self.store.held(part).await {
                    Ok(held) => break held,
                    Err(error) => {
                        warn!(
                            error = error.chain(),
                            "could not ask who holds the epochs of a batch"
                        );
                        tokio::time::sleep(RETRY_LAST).await;
                    }
                }
            };
            for agent in part.iter().filter(|agent| !held.contains(agent)) {
                warn!(%agent, "another collector has taken it: dropping what is on the way here");
                self.agents.lose(*agent);
                any = true;
            }
        }
        if !any {
            // A replica that lags says another thing than the fence; the same insert at once would be refused again.
            warn!(
                "the store refused an insert as another collector's, and names no such collector: trying again"
            );
            tokio::time::sleep(RETRY_LAST).await;
        }
    }

    /// Sets a snapshot aside that is older than anything that is kept.
    async fn leave_out(&mut self, pending: Incoming) {
        let snapshot = &pending.snapshot;
        let now = Instant::now();
        if self
            .said_too_old
            .is_none_or(|said| now - said >= TOO_OLD_SAID_EVERY)
        {
            self.said_too_old = Some(now);
            warn!(
                agent = %snapshot.agent, seq = snapshot.seq, host = %snapshot.host, time_ms = snapshot.time_ms,
                "a snapshot came that is older than samples are kept: it and its like are set aside, and counted in \
                 snapshots_too_old; keep samples for longer, or look at the host's clock"
            );
        }
        while !self.agents.is_lost(pending.snapshot.agent) {
            if self.set_aside(&pending, TOO_OLD).await {
                self.stats.too_old();
                return;
            }
        }
        self.hand_over(pending);
    }

    /// Keeps a snapshot where a person can see it, and lets its agent go on; `false`: it is another collector's.
    async fn set_aside(&self, pending: &Incoming, reason: &str) -> bool {
        let snapshot = &pending.snapshot;
        let frozen = freeze_set_aside(snapshot, reason);
        // Its table takes any bytes: when even this is refused, somebody is working on the tables, and waiting is all
        // that loses nothing.
        loop {
            match self.insert(&frozen, "set_aside").await {
                Outcome::Stored => break,
                Outcome::Fenced => {
                    self.find_lost(std::slice::from_ref(pending)).await;
                    return false;
                }
                Outcome::Refused(again) => warn!(
                    error = again.chain(),
                    "the store refuses what was set aside: see the table set_aside"
                ),
            }
            tokio::time::sleep(COMPLAIN_EVERY).await;
        }
        self.stats.set_aside(snapshot.encoded.len());
        self.agents.stored(snapshot.agent, snapshot.seq);
        true
    }

    fn acknowledge(&mut self, pending: Incoming) {
        let Pending { snapshot, guard, .. } = pending;
        let delay_ms = u64::try_from(clock::now_ms() - snapshot.time_ms).unwrap_or(0);
        self.stats
            .stored(snapshot.encoded.len(), Duration::from_millis(delay_ms));
        self.noted.process_metrics.stored(&snapshot, Instant::now());
        if !self
            .noted
            .touched
            .touch(Step::Minute, &snapshot.host, snapshot.time_ms)
        {
            self.stats.rollup_forgotten();
        }
        self.agents.stored(snapshot.agent, snapshot.seq);
        let durable = self.agents.durable(snapshot.agent).unwrap_or(snapshot.seq);
        let bare = Snapshot {
            samples: Vec::new(),
            exits: Vec::new(),
            processes: Vec::new(),
            encoded: bytes::Bytes::new(),
            ..snapshot
        };
        self.marks.insert(bare.agent, (bare, durable));
        drop(guard);
    }

    /// Inserts until the store has it, or refuses it for good.
    async fn insert(&self, frozen: &Frozen, table: &'static str) -> Outcome {
        let mut wait = RETRY_FIRST;
        let mut complained: Option<Instant> = None;
        loop {
            let started = Instant::now();
            // After a failure the rows may be stored or not. The store knows the token for a while only, and once
            // other epochs were dropped there are other bytes: so it is asked.
            let there = if complained.is_some() {
                self.store.holds(frozen).await
            } else {
                Ok(false)
            };
            let tried = match there {
                Ok(true) => Ok(()),
                Ok(false) => self.store.insert(frozen).await,
                Err(failed) => Err(failed),
            };
            let failed = match tried {
                Ok(()) => {
                    self.stats.inserted(table, frozen.rows(), started.elapsed());
                    self.set_ready(true);
                    if complained.is_some() {
                        info!(table, "the store takes inserts again");
                    }
                    return Outcome::Stored;
                }
                Err(failed) => failed,
            };
            if failed.is_fenced() {
                return Outcome::Fenced;
            }
            // What was answered in a way we do not understand may be stored or not: only the same bytes are safe.
            if matches!(failed, StoreError::Refused { .. }) && !failed.is_transient() {
                return Outcome::Refused(failed);
            }
            self.stats.retried();
            self.set_ready(false);
            if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                warn!(
                    table,
                    waiting = self.stats.waiting(),
                    error = failed.chain(),
                    "the store takes no inserts, trying again"
                );
                complained = Some(Instant::now());
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LAST);
        }
    }

    fn set_ready(&self, ready: bool) {
        self.stats.store_ready(ready);
        self.ready
            .send_if_modified(|was| std::mem::replace(was, ready) != ready);
    }

    /// Writes how far epochs are stored. A failure leaves an older figure for people to read, until the next time.
    async fn write_marks(&mut self) {
        self.marks_due = Instant::now() + MARKS_EVERY;
        let marks: Vec<_> = std::mem::take(&mut self.marks).into_values().collect();
        if let Some(frozen) = freeze_marks(&marks, clock::now_ms())
            && let Err(error) = self.store.insert(&frozen).await
        {
            warn!(error = error.chain(), "could not write the marks of agents");
        }
    }
}

fn freeze_batch(table: Table, batch: &Batch<OwnedSemaphorePermit>) -> Option<Frozen> {
    freeze(
        table,
        batch
            .snapshots
            .iter()
            .map(|pending| (&pending.snapshot, pending.stored)),
    )
}
