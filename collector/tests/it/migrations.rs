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
