//! The page of SQL: each query of it runs, and the views tell what the answers tell.

use procscope_proto::v1::{self, GroupBy};

use crate::{
    queries::{fleet, top_of},
    support::{Agent, Collector, Engine, PASSWORD, now_ms, push, sample, snapshot, timestamp, wait_until},
};

const PAGE: &str = include_str!("../../../docs/sql.md");

/// The queries of the page.
fn queries() -> Vec<&'static str> {
    let blocks = PAGE.split("```sql\n").skip(1);
    blocks.filter_map(|block| block.split("```").next()).collect()
}

#[tokio::test]
async fn what_the_page_tells_to_copy_runs_and_agrees_with_the_answers() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    // A whole hour that is over, so that there are minutes and hours of it, and a minute ago.
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let hour_ms = start_ms / 3_600_000 * 3_600_000 - 7_200_000;
    let mut agent = Agent::new(9);
    let ended = |n: u8, exit_code, lifetime_ns| v1::ProcessExit {
        process_id: vec![n; 16],
        pid: u32::from(n),
        name: "short".to_owned(),
        start_time: Some(timestamp(start_ms)),
        end_time: Some(timestamp(start_ms + 1_000)),
        exit_code,
        lifetime_ns,
        ..Default::default()
    };
    let mut waits = sample(31, "waits", 10, 1);
    waits.runqueue_ns_delta = Some(5_000_000);
    let frames = [
        agent.freeze(&snapshot("db3", hour_ms + 1_000, vec![sample(30, "old", 10, 1)])),
        agent.freeze(&v1::Snapshot {
            exits: vec![ended(32, Some(1), 1_000), ended(33, Some(0), 2_000_000_000)],
            ..snapshot("db3", start_ms + 2_000, vec![waits])
        }),
    ];
    push(&collector, &frames).await.unwrap();
    wait_until("the hour is computed", || async {
        engine.number("SELECT count() FROM host_samples_1h").await > 0
    })
    .await;
    let reader = engine.sql().with_user("reader").with_password(PASSWORD);
    assert_eq!(queries().len(), 10);
    for query in queries() {
        let counted = format!("SELECT count() FROM ({query})");
        let rows: u64 = reader
            .query_raw(&counted)
            .fetch_one()
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        assert!(rows > 0, "{query}");
    }
    // The same question by gRPC.
    let top = collector
        .query()
        .await
        .list_top_processes(top_of(start_ms, 10, GroupBy::Process))
        .await
        .unwrap()
        .into_inner();
    assert!(top.processes.len() > 5);
    let view = format!(
        "SELECT toString(process_id), avg_cpu_percent, cpu_seconds, avg_memory_mb FROM \
         procscope.top_processes(host = '', start = fromUnixTimestamp64Milli({start_ms}), \
         end = fromUnixTimestamp64Milli({}))",
        start_ms + 10_000
    );
    let rows: Vec<(String, f64, f64, Option<f64>)> = reader.query_raw(&view).fetch_all().await.unwrap();
    assert_eq!(rows.len(), top.processes.len());
    for row in &top.processes {
        let expected = (
            row.process_id.clone().unwrap(),
            row.avg_cpu_percent,
            row.cpu_seconds,
            row.avg_memory_mb,
        );
        assert!(rows.contains(&expected), "{expected:?} is not among {rows:?}");
    }
    // Hosts that are new and one that was seen an hour before; then all of them silent.
    for from_ms in [start_ms, start_ms + 40_000] {
        let view = format!(
            "SELECT sum(observed_seconds), sum(total_seconds) FROM procscope.host_coverage(host = '', \
             start = fromUnixTimestamp64Milli({from_ms}), end = fromUnixTimestamp64Milli({}))",
            from_ms + 10_000
        );
        let told: (f64, f64) = reader.query_raw(&view).fetch_one().await.unwrap();
        let top = collector
            .query()
            .await
            .list_top_processes(top_of(from_ms, 10, GroupBy::Process))
            .await
            .unwrap();
        let coverage = top.into_inner().coverage.unwrap();
        let answered = (coverage.observed_host_seconds, coverage.total_host_seconds);
        assert!(
            (told.0 - answered.0).abs() < 1e-6 && (told.1 - answered.1).abs() < 1e-6 && told.1 > 0.0,
            "{told:?} {answered:?}"
        );
        assert_eq!(told.0 > 0.0, from_ms == start_ms);
    }
    // The same host in a day: it was seen before in none, so it counts from its first interval.
    let day = format!(
        "SELECT observed_seconds, total_seconds < 5 * 3600 FROM procscope.host_coverage(host = 'db3', \
         start = fromUnixTimestamp64Milli({}), end = fromUnixTimestamp64Milli({}))",
        start_ms - 86_400_000,
        start_ms + 10_000
    );
    let day: Vec<(f64, u8)> = reader.query_raw(&day).fetch_all().await.unwrap();
    assert_eq!(day, [(2.0, 1)]);
    collector.stop().await;
}
