//! Text that looks like SQL, and questions that cannot be answered.

use procscope_proto::v1::{self, GroupBy};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{near, top_of};
use crate::support::{Agent, Collector, Engine, now_ms, push, range, sample, snapshot, timestamp};

#[tokio::test]
async fn text_that_looks_like_sql_stays_text() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 10_000;
    let names = [
        "'; DROP TABLE process_samples; --",
        "a\\'b\"c`d",
        "{name:String}",
        "%_\\x0a\\\\n?",
        "$(reboot) \u{1f980} FORMAT Native",
        "\\N",
    ];
    for (id, name) in (1..).zip(names) {
        let host = format!("host {name}");
        let mut agent = Agent::new(id);
        let exits = vec![v1::ProcessExit {
            process_id: vec![id; 16],
            pid: u32::from(id),
            name: name.to_owned(),
            exe: name.to_owned(),
            end_time: Some(timestamp(start_ms)),
            ..v1::ProcessExit::default()
        }];
        let frame = agent.freeze(&v1::Snapshot {
            exits,
            ..snapshot(&host, start_ms + 1_000, vec![sample(id, name, 10, 1)])
        });
        push(&collector, &[frame]).await.unwrap();
        let mut query = collector.query().await;
        let request = v1::ListTopProcessesRequest {
            hosts: vec![host.clone()],
            name_contains: name.to_owned(),
            ..top_of(start_ms, 1, GroupBy::Process)
        };
        let top = query.list_top_processes(request).await.unwrap().into_inner();
        assert_eq!(
            (
                top.processes.len(),
                &*top.processes[0].name,
                &top.processes[0].hosts[0]
            ),
            (1, name, &host)
        );
        let request = v1::GetProcessHistoryRequest {
            host: host.clone(),
            name: name.to_owned(),
            range: range(start_ms, start_ms + 1_000),
            ..Default::default()
        };
        let history = query.get_process_history(request).await.unwrap().into_inner();
        near(
            history.points.iter().filter_map(|point| point.cpu_seconds).sum(),
            0.01,
        );
        let request = v1::ListProcessExitsRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let exits = query
            .list_process_exits(request)
            .await
            .unwrap()
            .into_inner()
            .exits;
        assert_eq!((exits.len(), &*exits[0].exe), (1, name));
        let request = v1::ListGroupsRequest {
            base: name.to_owned(),
            range: range(start_ms, start_ms + 1_000),
            ..Default::default()
        };
        assert_eq!(
            query
                .list_groups(request)
                .await
                .unwrap()
                .into_inner()
                .members
                .len(),
            1
        );
    }
    assert_eq!(
        engine.number("SELECT count() FROM process_samples").await,
        names.len() as u64
    );
    collector.stop().await;
}

#[tokio::test]
async fn a_wrong_question_is_refused_with_its_field() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut query = collector.query().await;
    let field = |status: tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        status.get_details_bad_request().unwrap().field_violations[0]
            .field
            .clone()
    };
    let top = v1::ListTopProcessesRequest::default;
    for (request, name) in [
        (
            v1::ListTopProcessesRequest {
                limit: 1_001,
                ..top()
            },
            "limit",
        ),
        (v1::ListTopProcessesRequest { metric: 99, ..top() }, "metric"),
        (
            v1::ListTopProcessesRequest {
                group_by: 99,
                ..top()
            },
            "group_by",
        ),
        (
            v1::ListTopProcessesRequest {
                last_intervals: 5_000,
                ..top()
            },
            "last_intervals",
        ),
        (
            v1::ListTopProcessesRequest {
                name_contains: "x".repeat(1_001),
                ..top()
            },
            "name_contains",
        ),
        (
            v1::ListTopProcessesRequest {
                range: range(10_000, 5_000),
                ..top()
            },
            "range",
        ),
        (
            v1::ListTopProcessesRequest {
                range: range(0, now_ms()),
                ..top()
            },
            "range",
        ),
    ] {
        assert_eq!(field(query.list_top_processes(request).await.unwrap_err()), name);
    }
    let watch = v1::WatchTopProcessesRequest {
        query: Some(v1::ListTopProcessesRequest {
            range: range(1, 2),
            ..top()
        }),
    };
    assert_eq!(
        field(query.watch_top_processes(watch).await.unwrap_err()),
        "query.range"
    );
    let history = v1::GetProcessHistoryRequest {
        host: "h".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        field(query.get_process_history(history).await.unwrap_err()),
        "name"
    );
    let history = v1::GetProcessHistoryRequest {
        process_id: "' OR 1".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        field(query.get_process_history(history).await.unwrap_err()),
        "process_id"
    );
    let history = v1::GetProcessHistoryRequest {
        host: "h".to_owned(),
        name: "n".to_owned(),
        step_ms: 1,
        ..Default::default()
    };
    assert_eq!(
        field(query.get_process_history(history).await.unwrap_err()),
        "step_ms"
    );
    let exits = v1::ListProcessExitsRequest {
        page_size: 100_001,
        ..Default::default()
    };
    assert_eq!(
        field(query.list_process_exits(exits).await.unwrap_err()),
        "page_size"
    );
    let exits = v1::ListProcessExitsRequest {
        page_token: "junk".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        field(query.list_process_exits(exits).await.unwrap_err()),
        "page_token"
    );
    let groups = v1::ListGroupsRequest::default();
    assert_eq!(field(query.list_groups(groups).await.unwrap_err()), "base");
    let groups = v1::ListGroupsRequest {
        regex: "(".to_owned(),
        ..Default::default()
    };
    let mut agent = Agent::new(1);
    push(
        &collector,
        &[agent.freeze(&snapshot("h", now_ms(), vec![sample(1, "a", 1, 1)]))],
    )
    .await
    .unwrap();
    assert_eq!(field(query.list_groups(groups).await.unwrap_err()), "regex");
    collector.stop().await;
}
