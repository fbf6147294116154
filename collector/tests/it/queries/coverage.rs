//! How much of a range was seen: new hosts, seconds on their way, hosts nobody ever heard of.

use procscope_proto::v1;
use tonic::Code;

use super::near;
use crate::support::{Agent, Collector, Engine, now_ms, push, range, snapshot, timestamp};

/// A host that is observed from `from_ms` to `to_ms`, a second at a time.
async fn host(collector: &Collector, id: u8, name: &str, spans_ms: &[(i64, i64)]) {
    let mut agent = Agent::new(id);
    let mut frames = Vec::new();
    for (from_ms, to_ms) in spans_ms {
        for second in 1..=(to_ms - from_ms) / 1_000 {
            frames.push(agent.freeze(&snapshot(name, from_ms + second * 1_000, vec![])));
        }
    }
    push(collector, &frames).await.unwrap();
}

fn sides(range: Option<v1::TimeRange>) -> (i64, i64) {
    let range = range.unwrap();
    (range.start.unwrap().seconds, range.end.unwrap().seconds)
}

#[tokio::test]
async fn a_host_counts_from_its_first_interval_and_to_the_newest() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let newest_ms = now_ms() - 1_000;
    host(&collector, 1, "new", &[(newest_ms - 60_000, newest_ms)]).await;
    let mut query = collector.query().await;

    let hosts = query.list_hosts(v1::ListHostsRequest::default()).await.unwrap();
    let hosts = hosts.into_inner();
    assert_eq!(
        sides(hosts.range),
        ((newest_ms - 24 * 3_600_000) / 1_000, newest_ms / 1_000)
    );
    near(hosts.hosts[0].coverage.as_ref().unwrap().share, 1.0);

    let exits = query
        .list_process_exits(v1::ListProcessExitsRequest::default())
        .await
        .unwrap();
    let exits = exits.into_inner();
    assert_eq!(
        sides(exits.range),
        ((newest_ms - 3_600_000) / 1_000, newest_ms / 1_000)
    );
    near(exits.coverage.as_ref().unwrap().share, 1.0);
    near(exits.coverage.unwrap().total_host_seconds, 60.0);

    let since = |start_ms, end_ms: Option<i64>| v1::GetAuditRequest {
        hosts: vec!["new".to_owned()],
        range: Some(v1::TimeRange {
            start: Some(timestamp(start_ms)),
            end: end_ms.map(timestamp),
        }),
    };
    let open = query
        .get_audit(since(newest_ms - 30_000, None))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        sides(open.range).1,
        newest_ms / 1_000,
        "up to the newest interval"
    );
    near(open.coverage.unwrap().share, 1.0);
    let closed = since(newest_ms - 30_000, Some(newest_ms + 500));
    let closed = query.get_audit(closed).await.unwrap().into_inner();
    near(closed.coverage.unwrap().total_host_seconds, 30.5);
    collector.stop().await;
}

#[tokio::test]
async fn silence_is_missing_time() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let now_ms = now_ms();
    let start_ms = now_ms - 60_000;
    // Seen an hour before, and again in the last ten seconds of the range: the twenty before them are missing.
    let spans = [
        (start_ms - 3_600_000, start_ms - 3_590_000),
        (start_ms + 20_000, start_ms + 30_000),
    ];
    host(&collector, 1, "again", &spans).await;
    let mut query = collector.query().await;
    let request = v1::ListProcessExitsRequest {
        range: range(start_ms, start_ms + 30_000),
        ..Default::default()
    };
    let coverage = query
        .list_process_exits(request)
        .await
        .unwrap()
        .into_inner()
        .coverage;
    near(coverage.unwrap().share, 10.0 / 30.0);

    // It has been silent for half a minute: an open range does not end with it.
    let request = v1::ListProcessExitsRequest {
        range: Some(v1::TimeRange {
            start: Some(timestamp(start_ms)),
            end: None,
        }),
        ..Default::default()
    };
    let exits = query.list_process_exits(request).await.unwrap().into_inner();
    assert!(sides(exits.range).1 >= now_ms / 1_000, "{:?}", exits.range);
    assert!(exits.coverage.unwrap().total_host_seconds >= 60.0);
    collector.stop().await;
}

#[tokio::test]
async fn a_host_nobody_heard_of_is_not_found_unless_another_is_known() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 3_600_000;
    host(&collector, 1, "known", &[(start_ms, start_ms + 2_000)]).await;
    let mut query = collector.query().await;
    let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (names, said) in [
        (&["ghost"][..], Some("no host ghost is known")),
        (&["ghost", "spook"], Some("none of the 2 hosts is known")),
        // Silent within the range, but known.
        (&["known"], None),
        (&["ghost", "known"], None),
    ] {
        let top = v1::ListTopProcessesRequest {
            hosts: hosts(names),
            range: range(start_ms + 1_800_000, start_ms + 1_801_000),
            ..Default::default()
        };
        let exits = v1::ListProcessExitsRequest {
            hosts: hosts(names),
            range: top.range,
            ..Default::default()
        };
        let audit = v1::GetAuditRequest {
            hosts: hosts(names),
            range: top.range,
        };
        for ended in [
            query.list_top_processes(top).await.map(drop),
            query.list_process_exits(exits).await.map(drop),
            query.get_audit(audit).await.map(drop),
        ] {
            match (ended, said) {
                (Ok(()), None) => {}
                (Err(status), Some(said)) => {
                    assert_eq!((status.code(), status.message()), (Code::NotFound, said));
                }
                (ended, _) => panic!("{names:?}: {ended:?}"),
            }
        }
    }
    collector.stop().await;
}
