//! While a batch is being stored, answers are those of before: only complete snapshots count.

use procscope_proto::v1::{self, GroupBy, Metric};

use super::{fleet, top_of};
use crate::support::{
    Agent, Collector, Engine, now_ms, process_id, push, range, sample, snapshot, timestamp,
};

const METRICS: [Metric; 6] = [
    Metric::Cpu,
    Metric::Memory,
    Metric::PeakMemory,
    Metric::Runqueue,
    Metric::Faults,
    Metric::Switches,
];

const GROUPS: [GroupBy; 6] = [
    GroupBy::Process,
    GroupBy::Command,
    GroupBy::Container,
    GroupBy::Pod,
    GroupBy::User,
    GroupBy::Host,
];

/// Every question that reads rows of processes, with its answer as text.
async fn answers(collector: &Collector, start_ms: i64) -> Vec<(String, String)> {
    let mut query = collector.query().await;
    let mut answers = Vec::new();
    for group_by in GROUPS {
        for metric in METRICS {
            let request = v1::ListTopProcessesRequest {
                metric: metric.into(),
                ..top_of(start_ms, 15, group_by)
            };
            let top = query.list_top_processes(request).await.unwrap().into_inner();
            answers.push((format!("top by {metric:?} of {group_by:?}"), format!("{top:#?}")));
        }
    }
    let request = v1::ListGroupsRequest {
        base: "nginx".to_owned(),
        range: range(start_ms, start_ms + 15_000),
        ..v1::ListGroupsRequest::default()
    };
    let groups = query.list_groups(request).await.unwrap().into_inner();
    answers.push(("groups".to_owned(), format!("{groups:#?}")));
    // Steps of three seconds: one of them holds complete and half stored intervals.
    for (id, name) in [(process_id(1), ""), (String::new(), "nginx")] {
        let request = v1::GetProcessHistoryRequest {
            process_id: id,
            host: if name.is_empty() { "" } else { "db1" }.to_owned(),
            name: name.to_owned(),
            range: range(start_ms, start_ms + 15_000),
            step_ms: 3_000,
        };
        let history = query.get_process_history(request).await.unwrap().into_inner();
        answers.push((format!("history of {name:?}"), format!("{history:#?}")));
    }
    for page_size in [1, 100] {
        let request = v1::ListProcessExitsRequest {
            range: range(start_ms, start_ms + 15_000),
            page_size,
            ..v1::ListProcessExitsRequest::default()
        };
        let exits = query.list_process_exits(request).await.unwrap().into_inner();
        answers.push((format!("exits, {page_size} a page"), format!("{exits:#?}")));
    }
    answers
}

#[tokio::test]
async fn a_snapshot_counts_once_all_of_it_is_stored() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    // A third host brings three exits, in the seconds 4, 6 and 8; its agent has a number of its own for each.
    let mut agent = Agent::new(3);
    let mut frames = Vec::new();
    for second in [4, 6, 8] {
        let time_ms = start_ms + second * 1_000;
        let exit = v1::ProcessExit {
            process_id: vec![30 + second as u8; 16],
            pid: 30,
            name: "nginx".to_owned(),
            start_time: Some(timestamp(time_ms - 600)),
            end_time: Some(timestamp(time_ms - 100)),
            ..v1::ProcessExit::default()
        };
        frames.push(agent.freeze(&v1::Snapshot {
            exits: vec![exit],
            ..snapshot("db3", time_ms, vec![sample(30, "nginx", 700, 70)])
        }));
    }
    push(&collector, &frames).await.unwrap();
    let before = answers(&collector, start_ms).await;

    // What a collector that is not done leaves: rows of processes and exits with no row of their host. Those of db1 and
    // db3 are the newest of their agents; those of db2 lie in its hole between the seconds 3 and 6, as those of a
    // snapshot that the store refused afterwards would, and at times at which db1 and db3 are complete.
    for (table, columns) in [
        ("process_samples", ""),
        ("process_exits", ", s.end_time + INTERVAL 3 SECOND AS end_time"),
    ] {
        for (host, shift) in [("db1", 3), ("db2", 2), ("db3", 3)] {
            let seqs = if host == "db2" {
                "s.seq = 3"
            } else {
                "s.seq + 2 >= (SELECT max(seq) FROM host_samples WHERE host = '{host}')"
            };
            let seqs = seqs.replace("{host}", host);
            engine
                .execute(&format!(
                    "INSERT INTO {table} SELECT * REPLACE (s.seq + 100 AS seq, s.time + INTERVAL {shift} SECOND AS time{columns}) \
                     FROM {table} AS s WHERE s.host = '{host}' AND {seqs}"
                ))
                .await;
        }
    }
    for (table, rows) in [("process_samples", 3 * 4 + 1 + 3), ("process_exits", 3)] {
        let orphans = format!("SELECT count() FROM {table} WHERE seq > 100");
        assert_eq!(engine.number(&orphans).await, rows, "{table}");
    }

    let after = answers(&collector, start_ms).await;
    let changed: Vec<_> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|((what, _), _)| what)
        .collect();
    assert!(changed.is_empty(), "half stored snapshots changed {changed:?}");
    collector.stop().await;
}
