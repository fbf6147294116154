//! Minutes and hours, retention, and a disk without room.

use procscope_collector::retention::Retention;
use tonic::Code;

use crate::support::{Agent, Collector, Engine, now_ms, push, sample, snapshot, wait_until};

/// A whole hour that is over.
fn hour_ms() -> i64 {
    now_ms() / 3_600_000 * 3_600_000 - 7_200_000
}

async fn computed(engine: &Engine, table: &str) -> u64 {
    engine
        .number(&format!("SELECT sum(version) FROM {table} FINAL"))
        .await
}

#[tokio::test]
async fn what_is_older_than_samples_are_kept_is_set_aside_and_counted() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let days = |days: i64| now_ms() - days * 86_400_000;
    let frames: Vec<_> = [days(40), days(8), days(6)]
        .into_iter()
        .map(|time_ms| agent.freeze(&snapshot("h", time_ms, vec![sample(1, "a", 3, 5)])))
        .collect();
    push(&collector, &frames).await.unwrap();
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 1);
    let kept =
        "SELECT arraySort(groupArray((seq, reason LIKE 'too old%', length(snapshot) > 0))) FROM set_aside";
    assert!(engine.text(kept).await.contains("(2,1,1)"));
    for name in ["too_old", "set_aside"] {
        let name = format!("procscope_collector_snapshots_{name}_total");
        assert_eq!(collector.metric(&name).await, 2, "{name}");
    }
    collector.stop().await;
}

#[tokio::test]
async fn late_rows_come_into_their_minutes_and_hours() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start = hour_ms();
    let frames = |id: u8, step_ms: i64| {
        let mut agent = Agent::new(id);
        (1..=90_i64)
            .map(|n| {
                let mut samples = vec![sample(1, "a", 3, 5), sample(2, "b", 1, 2)];
                samples[1].rss_bytes = None;
                agent.freeze(&snapshot("h", start + n * step_ms, samples))
            })
            .collect::<Vec<_>>()
    };
    // Until the second minute, and then the same again from an agent that was away, until the middle of the hour.
    for (id, step_ms, sum) in [(1, 1_000, 90), (2, 20_000, 180)] {
        push(&collector, &frames(id, step_ms)).await.unwrap();
        for table in ["host_samples_1m", "host_samples_1h"] {
            wait_until(&format!("{table} has {sum}"), || async {
                computed(&engine, table).await == sum
            })
            .await;
        }
        for table in ["process_samples_1m", "process_samples_1h"] {
            for figure in [
                "sum(cpu_time_ns_delta)",
                "sumIf(interval_ns, name = 'b')",
                "max(peak_rss_bytes)",
            ] {
                let raw = engine
                    .number(&format!("SELECT {figure} FROM process_samples"))
                    .await;
                let coarse = engine
                    .number(&format!("SELECT {figure} FROM {table} FINAL"))
                    .await;
                assert_eq!(raw, coarse, "{figure} of {table}");
            }
            let known = engine
                .text(&format!(
                    "SELECT toString(sum(rss_byte_ns)) || ' ' || toString(sum(rss_known_ns)) FROM {table} FINAL"
                ))
                .await;
            let raw = engine
                .text(
                    "SELECT toString(sum(toUInt128(rss_bytes) * interval_ns)) || ' ' || \
                     toString(sumIf(interval_ns, isNotNull(rss_bytes))) FROM process_samples",
                )
                .await;
            assert_eq!(known, raw, "{table}");
            let never = format!("SELECT countIf(isNotNull(rss_byte_ns)) FROM {table} FINAL WHERE name = 'b'");
            assert_eq!(engine.number(&never).await, 0, "{table}");
            // Each way to make groups counts all of them once.
            let groups = table.replace("process", "group");
            for group_by in ["command", "container", "pod", "user", "host"] {
                let figures = "toString((sum(cpu_time_ns_delta), sum(alive_ns), sum(rss_byte_ns)))";
                let of_groups = format!("SELECT {figures} FROM {groups} FINAL WHERE group_by = '{group_by}'");
                let of_processes = format!("SELECT {figures} FROM {table} FINAL");
                assert_eq!(
                    engine.text(&of_groups).await,
                    engine.text(&of_processes).await,
                    "{groups} by {group_by}"
                );
            }
        }
    }
    collector.stop().await;
    // Whatever a collector left behind is found by the next.
    engine.execute("TRUNCATE TABLE host_samples_1m").await;
    engine.execute("TRUNCATE TABLE host_samples_1h").await;
    let collector = Collector::start(&engine).await;
    for table in ["host_samples_1m", "host_samples_1h"] {
        wait_until(&format!("{table} is whole again"), || async {
            computed(&engine, table).await == 180
        })
        .await;
    }
    collector.stop().await;
}

#[tokio::test]
async fn tables_keep_their_rows_for_as_long_as_was_told() {
    let engine = Engine::start();
    let store = engine.store();
    store.migrate(0).await.unwrap();
    let days = |table: &'static str| {
        let sql = format!(
            "SELECT extract(engine_full, 'TTL .*toIntervalDay[^0-9]*([0-9]+)') FROM system.tables WHERE \
             database = 'procscope' AND name = '{table}'"
        );
        let engine = &engine;
        async move { engine.text(&sql).await }
    };
    store.keep(Retention::default()).await.unwrap();
    assert_eq!(days("process_samples").await, "7");
    let other = Retention {
        samples_days: 3,
        minutes_days: 31,
        hours_days: 400,
        ..Retention::default()
    };
    for _again in 0..2 {
        store.keep(other).await.unwrap();
    }
    for (table, kept) in [
        ("process_samples", "3"),
        ("process_exits", "3"),
        ("host_samples", "3"),
        ("process_samples_1m", "31"),
        ("group_samples_1m", "31"),
        ("group_samples_1h", "400"),
        ("host_samples_1h", "400"),
    ] {
        assert_eq!(days(table).await, kept, "{table}");
    }
}

#[tokio::test]
async fn a_disk_without_room_leaves_snapshots_with_their_agents() {
    let engine = Engine::start();
    let full = Retention {
        free_bytes_min: u64::MAX / 2,
        ..Retention::default()
    };
    let collector = Collector::start_as(engine.config(), |config| config.retention = full).await;
    wait_until("it says so", || async {
        let (status, why) = collector.get("/readyz").await;
        status == 503 && why.contains("disk")
    })
    .await;
    let mut agent = Agent::new(1);
    let frame = agent.freeze(&snapshot("h", now_ms(), vec![sample(1, "a", 1, 1)]));
    let refused = push(&collector, std::slice::from_ref(&frame)).await.unwrap_err();
    assert!(
        refused.code() == Code::Unavailable && refused.message().contains("disk"),
        "{refused}"
    );
    assert!(
        collector
            .metric("procscope_collector_store_disk_free_bytes")
            .await
            > 0
    );
    collector.stop().await;
    let collector = Collector::start(&engine).await;
    push(&collector, &[frame]).await.unwrap();
    collector.stop().await;
}
