//! The same question again: the answer of before while the store holds the same, and never longer.

use procscope_proto::v1::{self, GroupBy};

use super::{fleet, near, top_of};
use crate::support::{Agent, Collector, Engine, now_ms, process_id, push, range, sample, snapshot};

/// Every kind of answer over the fleet's ten seconds, as text.
async fn all(collector: &Collector, start_ms: i64) -> Vec<String> {
    let mut query = collector.query().await;
    let within = range(start_ms, start_ms + 10_000);
    let mut answers = Vec::new();
    for group_by in [GroupBy::Process, GroupBy::Command, GroupBy::Host] {
        let top = query.list_top_processes(top_of(start_ms, 10, group_by)).await;
        answers.push(format!("{:?}", top.unwrap().into_inner()));
    }
    let history = v1::GetProcessHistoryRequest {
        process_id: process_id(1),
        range: within,
        ..v1::GetProcessHistoryRequest::default()
    };
    let history = query.get_process_history(history).await.unwrap();
    answers.push(format!("{:?}", history.into_inner()));
    let exits = v1::ListProcessExitsRequest {
        range: within,
        ..v1::ListProcessExitsRequest::default()
    };
    let exits = query.list_process_exits(exits).await.unwrap();
    answers.push(format!("{:?}", exits.into_inner()));
    let hosts = query.list_hosts(v1::ListHostsRequest { range: within }).await;
    answers.push(format!("{:?}", hosts.unwrap().into_inner()));
    let audit = v1::GetAuditRequest {
        range: within,
        ..v1::GetAuditRequest::default()
    };
    let audit = query.get_audit(audit).await.unwrap();
    answers.push(format!("{:?}", audit.into_inner()));
    let groups = v1::ListGroupsRequest {
        base: "n".to_owned(),
        range: within,
        ..v1::ListGroupsRequest::default()
    };
    let groups = query.list_groups(groups).await.unwrap();
    answers.push(format!("{:?}", groups.into_inner()));
    answers
}

#[tokio::test]
async fn it_is_answered_from_memory_until_something_of_its_range_is_stored() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let first = all(&collector, start_ms).await;
    assert_eq!(
        collector
            .metric("procscope_collector_answers_recalled_total")
            .await,
        0
    );
    // The first time leaves a name, the second an answer: from then on the store is asked for its parts only, unless it
    // merged them meanwhile.
    let mut recalled = 0;
    for _again in 0..50 {
        assert_eq!(all(&collector, start_ms).await, first);
        let before = std::mem::replace(
            &mut recalled,
            collector
                .metric("procscope_collector_answers_recalled_total")
                .await,
        );
        if recalled - before == u64::try_from(first.len()).unwrap() {
            break;
        }
    }
    assert!(recalled >= u64::try_from(first.len()).unwrap(), "{recalled}");

    // What was spooled comes late.
    let mut late = Agent::new(3);
    let frame = late.freeze(&snapshot(
        "db3",
        start_ms + 7_000,
        vec![sample(9, "nginx", 500, 10)],
    ));
    push(&collector, &[frame]).await.unwrap();
    let mut query = collector.query().await;
    let top = query
        .list_top_processes(top_of(start_ms, 10, GroupBy::Command))
        .await;
    let top = top.unwrap().into_inner();
    assert_eq!(top.processes[0].hosts, ["db1", "db2", "db3"]);
    near(top.processes[0].cpu_seconds, 3.0 + 3.2 + 0.5);
    let now = all(&collector, start_ms).await;
    // Only the history of a process of another host, and the exits but for their coverage, are as they were.
    for (kind, (before, after)) in first.iter().zip(&now).enumerate() {
        assert_eq!(before == after, kind == 3, "{kind}: {after}");
    }
    collector.stop().await;
}

#[tokio::test]
async fn who_comes_with_a_question_while_it_is_answered_waits_for_the_answer() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let query = collector.query().await;
    let mut asked = tokio::task::JoinSet::new();
    for _reader in 0..40 {
        let mut query = query.clone();
        let audit = v1::GetAuditRequest {
            range: range(start_ms, start_ms + 10_000),
            ..v1::GetAuditRequest::default()
        };
        asked.spawn(async move { query.get_audit(audit).await.unwrap().into_inner() });
    }
    let answers = asked.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    // The store may merge parts meanwhile, and then one more asks it.
    let recalled = collector
        .metric("procscope_collector_answers_recalled_total")
        .await;
    assert!((30..40).contains(&recalled), "{recalled}");
    collector.stop().await;
}

#[tokio::test]
async fn rows_that_are_taken_away_are_in_no_answer() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    for _again in 0..3 {
        all(&collector, start_ms).await;
    }
    engine
        .execute("ALTER TABLE host_samples DELETE WHERE host = 'db2' SETTINGS mutations_sync = 2")
        .await;
    let mut query = collector.query().await;
    let top = query
        .list_top_processes(top_of(start_ms, 10, GroupBy::Command))
        .await;
    let top = top.unwrap().into_inner();
    let nginx = top.processes.iter().find(|row| row.name == "nginx").unwrap();
    assert_eq!(nginx.hosts, ["db1"]);
    collector.stop().await;
}
