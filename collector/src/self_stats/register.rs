//! Under which names, and with which words, the counters stand on the collector's page.

use prometheus_client::registry::Unit;

use super::SelfStats;

impl SelfStats {
    /// All of them.
    pub(super) fn register(&mut self) {
        self.register_access();
        self.register_questions();
        let r = &mut self.registry;
        r.register(
            "snapshots",
            "Snapshots that were received and passed the checks",
            self.snapshots.clone(),
        );
        r.register(
            "duplicates",
            "Snapshots that were on the way or stored already",
            self.duplicates.clone(),
        );
        r.register(
            "refused",
            "Streams and snapshots that were turned away",
            self.refused.clone(),
        );
        r.register("rows_stored", "Rows that the store has taken", self.rows.clone());
        r.register(
            "inserts",
            "Inserts that the store has taken",
            self.inserts.clone(),
        );
        r.register(
            "insert_retries",
            "Inserts that failed and were tried again",
            self.retries.clone(),
        );
        r.register(
            "snapshots_set_aside",
            "Snapshots that the store refused for good, or that were too old",
            self.set_aside.clone(),
        );
        r.register(
            "snapshots_too_old",
            "Snapshots set aside because samples of their time are kept no more",
            self.too_old.clone(),
        );
        r.register(
            "leases_taken",
            "Epochs that this collector took because another one held them, or nobody",
            self.leases.clone(),
        );
        r.register(
            "snapshots_handed_over",
            "Snapshots that were dropped on their way because another collector has taken their epoch",
            self.handed_over.clone(),
        );
        r.register(
            "windows_computed",
            "Minutes and hours of hosts that were computed, again after late rows",
            self.windows.clone(),
        );
        r.register(
            "windows_forgotten",
            "Minutes and hours that found no room among those to be computed, so that everything is looked over",
            self.windows_forgotten.clone(),
        );
        r.register(
            "rollup_failures",
            "Computations of minutes and hours that failed and are tried again",
            self.rollup_failures.clone(),
        );
        let free = "Room on the disk of the store that has least";
        r.register_with_unit("store_disk_free", free, Unit::Bytes, self.disk_free.clone());
        let insert = "Time one insert took";
        r.register_with_unit("insert", insert, Unit::Seconds, self.insert_seconds.clone());
        let visible =
            "Time from the end of an interval until it could be queried, by the clocks of host and collector";
        r.register_with_unit("visible", visible, Unit::Seconds, self.visible_seconds.clone());
        r.register(
            "snapshots_waiting",
            "Snapshots on their way to the store",
            self.waiting.clone(),
        );
        let bytes = "Encoded size of the snapshots on their way";
        r.register_with_unit("waiting", bytes, Unit::Bytes, self.waiting_bytes.clone());
        r.register(
            "agents_connected",
            "Agents that are connected",
            self.agents.clone(),
        );
        r.register(
            "store_ready",
            "1 when the store answers and its tables are ours",
            self.store_ready.clone(),
        );
    }

    fn register_questions(&mut self) {
        let r = &mut self.registry;
        r.register(
            "questions",
            "Questions that were answered, by outcome",
            self.questions.clone(),
        );
        r.register(
            "answers_recalled",
            "Answers that were given again because the store still held what they were made of",
            self.recalled.clone(),
        );
        r.register(
            "answers_forgotten",
            "Questions and answers that gave way to others in memory",
            self.forgotten.clone(),
        );
        let question = "Time one question took";
        r.register_with_unit("question", question, Unit::Seconds, self.question_seconds.clone());
    }

    fn register_access(&mut self) {
        let r = &mut self.registry;
        r.register(
            "watchers",
            "Those who watch the live top, by gRPC, SSE or WebSocket",
            self.watchers.clone(),
        );
        r.register(
            "watchers_dropped",
            "Those who watched and were dropped because they left an answer unread",
            self.watchers_dropped.clone(),
        );
        r.register(
            "connections",
            "Connections that are open",
            self.connections.clone(),
        );
        r.register(
            "connections_refused",
            "Connections that were turned away before they asked for anything",
            self.connections_refused.clone(),
        );
        r.register(
            "reloads",
            "Certificates and tokens that have changed and were read again",
            self.reloads.clone(),
        );
        r.register(
            "held_back",
            "Snapshots after which their agent had to wait, for it sent more than its rate",
            self.held_back.clone(),
        );
        r.register(
            "streams_aged",
            "Streams that were ended in order because of their age",
            self.streams_aged.clone(),
        );
    }
}
