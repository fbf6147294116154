//! A range whose ends move: what is known of its minutes and hours is used again, and answers stay what they are.

use procscope_proto::v1::{self, GroupBy, Metric};

use super::coarse::{HOUR_MS, Numbers, frames};
use crate::support::{Collector, Engine, now_ms, push, range, wait_until};

const QUESTIONS: [(GroupBy, Metric); 6] = [
    (GroupBy::Process, Metric::Cpu),
    (GroupBy::Process, Metric::PeakMemory),
    (GroupBy::Process, Metric::Io),
    (GroupBy::Command, Metric::Memory),
    (GroupBy::Container, Metric::Cpu),
    (GroupBy::Host, Metric::Faults),
];

/// The answers of a collector, as text; with few rows, so that who stands in them is worth a question.
async fn tops(collector: &Collector, from_ms: i64, to_ms: i64) -> Vec<String> {
    let mut query = collector.query().await;
    let mut tops = Vec::new();
    for (group_by, metric) in QUESTIONS {
        let request = v1::ListTopProcessesRequest {
            group_by: group_by.into(),
            metric: metric.into(),
            range: range(from_ms, to_ms),
            limit: 3,
            ..Default::default()
        };
        let top = query.list_top_processes(request).await.unwrap().into_inner();
        assert!(!top.processes.is_empty());
        tops.push(format!("{top:#?}"));
    }
    tops
}

#[tokio::test]
async fn what_was_learned_of_hours_is_used_while_the_ends_move_and_no_longer() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() / HOUR_MS * HOUR_MS - 30 * HOUR_MS;
    let mut numbers = Numbers(3);
    for id in 1..=3 {
        push(&collector, &frames(id, start_ms, &mut numbers))
            .await
            .unwrap();
    }
    let computed = || async {
        engine
            .number("SELECT sum(version) FROM host_samples_1h FINAL")
            .await
            == engine.number("SELECT count() FROM host_samples").await
    };
    wait_until("all hours are computed", computed).await;
    let recalled = || collector.metric("procscope_collector_answers_recalled_total");
    let (from_ms, to_ms) = (start_ms + 300_001, start_ms + 2 * HOUR_MS + 300_001);
    let mut answers = tops(&collector, from_ms, to_ms).await;
    for moved_ms in [7_000, 14_000] {
        let before = recalled().await;
        let moved = tops(&collector, from_ms + moved_ms, to_ms + moved_ms).await;
        // Lists of minutes and hours, and what the winners used in them.
        assert!(recalled().await >= before + 4 * u64::try_from(QUESTIONS.len()).unwrap());
        assert_ne!(moved, answers);
        answers = moved;
        // One that knows nothing yet says the same.
        let fresh = Collector::start(&engine).await;
        assert_eq!(tops(&fresh, from_ms + moved_ms, to_ms + moved_ms).await, answers);
        fresh.stop().await;
    }
    // What comes late into an hour is in the next answer, whether that was computed again by then or not.
    for table in ["process_samples", "host_samples"] {
        let (late_ms, until_ms) = (start_ms + HOUR_MS + 60_000, start_ms + HOUR_MS + 120_000);
        let delta = if table == "process_samples" {
            ", cpu_time_ns_delta * 900 AS cpu_time_ns_delta"
        } else {
            ""
        };
        engine
            .execute(&format!(
                "INSERT INTO {table} SELECT * REPLACE (seq + 10000 AS seq, time + INTERVAL 3 MILLISECOND AS time{delta}) \
                 FROM {table} AS s WHERE toUnixTimestamp64Milli(s.time) > {late_ms} AND \
                 toUnixTimestamp64Milli(s.time) < {until_ms} - 3"
            ))
            .await;
    }
    let (from_ms, to_ms) = (from_ms + 14_000, to_ms + 14_000);
    let late = tops(&collector, from_ms, to_ms).await;
    assert_ne!(late[0], answers[0]);
    let fresh = Collector::start(&engine).await;
    assert_eq!(tops(&fresh, from_ms, to_ms).await, late);
    fresh.stop().await;
    collector.stop().await;
}
