//! What the collector says about itself: rows stored, refused, waiting, and how long things took.

mod register;

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// A label with one name and a value from a fixed set of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Table {
    table: &'static str,
}

/// Why something was turned away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: &'static str,
}

/// What was read again, and whether it could be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reload {
    what: &'static str,
    outcome: &'static str,
}

/// A connection that is open; leaving it counts it off.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Somebody who watches; leaving it counts them off.
#[derive(Debug)]
pub struct OpenWatch(Gauge);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A question and how its answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Question {
    question: &'static str,
    outcome: &'static str,
}

/// From 1 ms to 65 s, doubling: wide enough for a cache hit and for a store on its knees.
fn seconds() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
        0.001, 2.0, 17,
    ))
}

/// Counters and gauges of one collector.
#[derive(Debug)]
pub struct SelfStats {
    registry: Registry,
    snapshots: Counter,
    duplicates: Counter,
    refused: Family<Reason, Counter>,
    connections: Gauge,
    connections_refused: Family<Reason, Counter>,
    reloads: Family<Reload, Counter>,
    held_back: Counter,
    streams_aged: Counter,
    rows: Family<Table, Counter>,
    inserts: Family<Table, Counter>,
    retries: Counter,
    set_aside: Counter,
    too_old: Counter,
    leases: Counter,
    handed_over: Counter,
    windows: Counter,
    windows_forgotten: Counter,
    rollup_failures: Counter,
    disk_free: Gauge,
    insert_seconds: Histogram,
    visible_seconds: Histogram,
    waiting: Gauge,
    waiting_bytes: Gauge,
    agents: Gauge,
    store_ready: Gauge,
    questions: Family<Question, Counter>,
    question_seconds: Histogram,
    recalled: Counter,
    forgotten: Counter,
    watchers: Gauge,
    watchers_dropped: Counter,
}

impl Default for SelfStats {
    fn default() -> Self {
        Self::new()
    }
}

impl SelfStats {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut stats = Self {
            registry: Registry::with_prefix("procscope_collector"),
            snapshots: Counter::default(),
            duplicates: Counter::default(),
            refused: Family::default(),
            connections: Gauge::default(),
            connections_refused: Family::default(),
            reloads: Family::default(),
            held_back: Counter::default(),
            streams_aged: Counter::default(),
            rows: Family::default(),
            inserts: Family::default(),
            retries: Counter::default(),
            set_aside: Counter::default(),
            too_old: Counter::default(),
            leases: Counter::default(),
            handed_over: Counter::default(),
            windows: Counter::default(),
            windows_forgotten: Counter::default(),
            rollup_failures: Counter::default(),
            disk_free: Gauge::default(),
            insert_seconds: seconds(),
            visible_seconds: seconds(),
            waiting: Gauge::default(),
            waiting_bytes: Gauge::default(),
            agents: Gauge::default(),
            store_ready: Gauge::default(),
            questions: Family::default(),
            question_seconds: seconds(),
            recalled: Counter::default(),
            forgotten: Counter::default(),
            watchers: Gauge::default(),
            watchers_dropped: Counter::default(),
        };
        stats.register();
        stats
    }

    /// A connection was turned away.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.get_or_create(&Reason { reason }).inc();
    }

    /// A connection is open until what this returns is dropped.
    #[must_use]
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Something has changed and was read again; `good`: it is in use now.
    pub fn reloaded(&self, what: &'static str, good: bool) {
        let outcome = if good { "ok" } else { "kept_old" };
        self.reloads.get_or_create(&Reload { what, outcome }).inc();
    }

    /// An agent had to wait.
    pub fn held_back(&self) {
        self.held_back.inc();
    }

    /// A stream has ended because of its age.
    pub fn stream_aged(&self) {
        self.streams_aged.inc();
    }

    /// A snapshot passed the checks and goes to the writer.
    pub fn received(&self, bytes: usize) {
        self.snapshots.inc();
        self.waiting.inc();
        self.waiting_bytes.inc_by(signed(bytes));
    }

    /// A snapshot that went to the writer is stored; `delay` is the time since its interval ended.
    pub fn stored(&self, bytes: usize, delay: Duration) {
        self.done(bytes);
        self.visible_seconds.observe(delay.as_secs_f64());
    }

    /// A snapshot was set aside because it was older than samples are kept.
    pub fn too_old(&self) {
        self.too_old.inc();
    }

    /// A snapshot that went to the writer was set aside.
    pub fn set_aside(&self, bytes: usize) {
        self.done(bytes);
        self.set_aside.inc();
    }

    /// A snapshot that went to the writer is another collector's now.
    pub fn handed_over(&self, bytes: usize) {
        self.done(bytes);
        self.handed_over.inc();
    }

    /// Epochs were taken.
    pub fn leases_taken(&self, epochs: usize) {
        self.leases.inc_by(u64::try_from(epochs).unwrap_or(u64::MAX));
    }

    /// Minutes or hours were computed.
    pub fn rolled_up(&self, windows: usize) {
        self.windows.inc_by(u64::try_from(windows).unwrap_or(u64::MAX));
    }

    /// A window found no room among those to be computed.
    pub fn rollup_forgotten(&self) {
        self.windows_forgotten.inc();
    }

    /// A computation failed.
    pub fn rollup_failed(&self) {
        self.rollup_failures.inc();
    }

    /// How much room the store's disk has.
    pub fn disk_free(&self, bytes: u64) {
        self.disk_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn done(&self, bytes: usize) {
        self.waiting.dec();
        self.waiting_bytes.dec_by(signed(bytes));
    }

    /// A snapshot was there already.
    pub fn duplicate(&self) {
        self.duplicates.inc();
    }

    /// A stream or a snapshot was turned away.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// The store has taken an insert.
    pub fn inserted(&self, table: &'static str, rows: usize, took: Duration) {
        self.rows
            .get_or_create(&Table { table })
            .inc_by(u64::try_from(rows).unwrap_or(0));
        self.inserts.get_or_create(&Table { table }).inc();
        self.insert_seconds.observe(took.as_secs_f64());
    }

    /// An insert failed and will be tried again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// How many agents are connected now.
    pub fn agents_connected(&self, agents: usize) {
        self.agents.set(signed(agents));
    }

    /// Whether the store answers and its tables are ours.
    pub fn store_ready(&self, ready: bool) {
        self.store_ready.set(i64::from(ready));
    }

    /// A question was answered.
    pub fn asked(&self, question: &'static str, outcome: &'static str, took: Duration) {
        self.questions
            .get_or_create(&Question { question, outcome })
            .inc();
        self.question_seconds.observe(took.as_secs_f64());
    }

    /// Counts answers that are given again.
    #[must_use]
    pub fn recalled(&self) -> Counter {
        self.recalled.clone()
    }

    /// Counts what gave way to others in memory.
    #[must_use]
    pub fn forgotten(&self) -> Counter {
        self.forgotten.clone()
    }

    /// Somebody watches until what this returns is dropped.
    #[must_use]
    pub fn watch(&self) -> OpenWatch {
        self.watchers.inc();
        OpenWatch(self.watchers.clone())
    }

    /// Somebody left an answer unread.
    pub fn watcher_dropped(&self) {
        self.watchers_dropped.inc();
    }

    /// Snapshots on their way to the store.
    #[must_use]
    pub fn waiting(&self) -> i64 {
        self.waiting.get()
    }

    /// Everything in the text format of `OpenMetrics`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a String does not fail.
            Err(std::fmt::Error) => String::new(),
        }
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_came_and_was_not_stored() {
        let stats = SelfStats::new();
        stats.received(10);
        stats.received(20);
        stats.stored(10, Duration::from_secs(1));
        let text = stats.text();
        for line in [
            "procscope_collector_snapshots_total 2",
            "procscope_collector_snapshots_waiting 1",
            "procscope_collector_waiting_bytes 20",
            "procscope_collector_visible_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn refusals_are_counted_by_reason() {
        let stats = SelfStats::new();
        stats.refused("token");
        assert!(
            stats
                .text()
                .contains("procscope_collector_refused_total{reason=\"token\"} 1")
        );
    }
}
