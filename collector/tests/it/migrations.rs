//! The schema: applied once, noticed when changed, compared with what is written.

use crate::support::Engine;

#[tokio::test]
async fn migrating_twice_does_nothing_the_second_time() {
    let engine = Engine::start();
    let store = engine.store();
    let first = store.migrate(0).await.unwrap();
    assert_eq!(
        first.len(),
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/schema"))
            .unwrap()
            .count()
    );
    assert!(store.migrate(0).await.unwrap().is_empty());
    store.check_columns().await.unwrap();
    assert_eq!(
        engine.number("SELECT count() FROM schema_migrations").await,
        first.len() as u64
    );
}

#[tokio::test]
async fn a_changed_migration_is_refused_by_name() {
    let engine = Engine::start();
    let store = engine.store();
    store.migrate(0).await.unwrap();
    engine
        .execute("INSERT INTO schema_migrations SELECT number, name, 'changed', now64(3) FROM schema_migrations WHERE number = 3")
        .await;
    let line = store.migrate(0).await.unwrap_err().to_string();
    assert!(
        line.contains("0003_process_exits.sql") && line.contains("changed"),
        "{line}"
    );
}

#[tokio::test]
async fn a_column_of_another_type_or_none_is_refused_by_name() {
    let engine = Engine::start();
    let store = engine.store();
    store.migrate(0).await.unwrap();
    engine
        .execute("ALTER TABLE process_samples MODIFY COLUMN threads UInt64")
        .await;
    let line = store.check_columns().await.unwrap_err().to_string();
    assert!(
        line.contains("process_samples.threads") && line.contains("UInt64"),
        "{line}"
    );
    engine
        .execute("ALTER TABLE process_samples DROP COLUMN threads")
        .await;
    let line = store.check_columns().await.unwrap_err().to_string();
    assert!(
        line.contains("process_samples.threads") && line.contains("missing"),
        "{line}"
    );
}

#[tokio::test]
async fn every_column_tells_its_meaning() {
    let engine = Engine::start();
    engine.store().migrate(0).await.unwrap();
    let silent = "SELECT count() FROM system.columns WHERE database = 'procscope' AND comment = ''";
    assert_eq!(engine.number(silent).await, 0);
}

#[tokio::test]
async fn a_migration_that_was_applied_and_not_noted_may_come_again_and_keeps_what_is_there() {
    let engine = Engine::start();
    let store = engine.store();
    store.migrate(0).await.unwrap();
    // A row from before the columns of 0008, and a collector that ended before it noted what it had applied.
    engine
        .execute("INSERT INTO process_samples (host, time, name) VALUES ('h', '2026-11-22 05:00:00', 'a')")
        .await;
    engine
        .execute("DELETE FROM schema_migrations WHERE number >= 8 SETTINGS lightweight_deletes_sync = 2")
        .await;
    assert_eq!(
        store.migrate(0).await.unwrap(),
        [
            "0008_process_samples_more.sql",
            "0009_process_exits_more.sql",
            "0010_host_samples_cost.sql",
            "0011_leases.sql",
            "0012_process_samples_1m.sql",
            "0013_host_samples_1m.sql",
            "0014_process_samples_1h.sql",
            "0015_host_samples_1h.sql",
            "0016_host_samples_windows.sql",
            "0017_host_samples_minutes.sql",
            "0018_host_samples_hours.sql",
            "0019_group_peaks_1m.sql",
            "0020_group_peaks_1h.sql",
            "0021_top_processes.sql",
            "0022_top_commands.sql",
            "0023_process_history.sql",
            "0024_exited_processes.sql",
            "0025_host_audit.sql",
            "0026_host_usage.sql",
        ]
    );
    store.check_columns().await.unwrap();
    let row = "SELECT (name, read_bytes_delta, cgroup_id, runqueue_wait_counts, state) FROM process_samples";
    assert_eq!(engine.text(row).await, "('a',NULL,NULL,[],'')");
}
