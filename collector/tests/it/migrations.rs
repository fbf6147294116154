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
            "0027_process_samples_pod.sql",
            "0028_process_exits_pod.sql",
            "0029_processes_pod.sql",
            "0030_process_samples_1m_pod.sql",
            "0031_process_samples_1h_pod.sql",
            "0032_group_peaks_1m_pod.sql",
            "0033_group_peaks_1h_pod.sql",
            "0034_group_peaks_1m_no_pod.sql",
            "0035_group_peaks_1h_no_pod.sql",
            "0036_top_processes_pod.sql",
            "0037_exited_processes_pod.sql",
            "0038_host_samples_1m_newest.sql",
            "0039_host_samples_1h_newest.sql",
            "0040_host_coverage.sql",
            "0041_process_history.sql",
            "0042_group_samples_1m.sql",
            "0043_group_samples_1h.sql",
            "0044_host_samples_1m_sums.sql",
            "0045_host_samples_1h_sums.sql",
        ]
    );
    store.check_columns().await.unwrap();
    let row = "SELECT (name, read_bytes_delta, cgroup_id, runqueue_wait_counts, state, pod_uid) FROM process_samples";
    assert_eq!(engine.text(row).await, "('a',NULL,NULL,[],'','')");
}

#[tokio::test]
async fn what_was_stored_before_pods_were_known_is_in_none_and_keeps_its_figures() {
    let engine = Engine::start();
    engine.store().migrate(0).await.unwrap();
    let forget = "DELETE FROM schema_migrations WHERE number >= 27 SETTINGS lightweight_deletes_sync = 2";
    // The tables as they were before 0027.
    engine.execute(forget).await;
    for (table, schema) in [
        (
            "process_samples_1m",
            include_str!("../../schema/0012_process_samples_1m.sql"),
        ),
        (
            "process_samples_1h",
            include_str!("../../schema/0014_process_samples_1h.sql"),
        ),
        (
            "group_peaks_1m",
            include_str!("../../schema/0019_group_peaks_1m.sql"),
        ),
        (
            "group_peaks_1h",
            include_str!("../../schema/0020_group_peaks_1h.sql"),
        ),
    ] {
        engine.execute(&format!("DROP TABLE {table} SYNC")).await;
        engine.execute(schema).await;
    }
    let insert = async |table: &str, columns: &str, rows: &str| {
        let sql = format!("INSERT INTO {table} (host, window, version, {columns}) VALUES {rows}");
        engine.execute(&sql).await;
    };
    let (five, six) = ("'h', '2026-11-22 05:00:00'", "'h', '2026-11-22 06:00:00'");
    let (peaks, process) = (
        "group_by, key, peak_rss_bytes, open_file_descriptors",
        "name, cpu_time_ns_delta",
    );
    for unit in ["1m", "1h"] {
        let (group_peaks, processes) = (format!("group_peaks_{unit}"), format!("process_samples_{unit}"));
        let rows = format!(
            "({five}, 60, 'command', 'a', 1, 1), ({five}, 60, 'host', 'h', 7, 3), ({six}, 60, 'host', 'h', 9, NULL)"
        );
        insert(&group_peaks, peaks, &rows).await;
        // Computed twice, before and after.
        insert(
            &processes,
            process,
            &format!("({five}, 1, 'a', 10), ({five}, 1, 'b', 1)"),
        )
        .await;
        insert(&processes, process, &format!("({five}, 2, 'a', 20)")).await;
    }
    engine.store().migrate(0).await.unwrap();
    let pods = [process, ", pod_uid"].concat();
    for unit in ["1m", "1h"] {
        let (group_peaks, processes) = (format!("group_peaks_{unit}"), format!("process_samples_{unit}"));
        // What is computed wins over what the migration made up, also when that comes again.
        let rows = format!("({six}, 60, 'pod', '', 5, NULL), ({six}, 60, 'pod', 'u', 4, NULL)");
        insert(&group_peaks, peaks, &rows).await;
        let rows =
            format!("({five}, 3, 'a', 30, ''), ({five}, 3, 'a', 400, 'u'), ({five}, 2, 'a', 100, 'u')");
        insert(&processes, &pods, &rows).await;
    }
    engine.execute(forget).await;
    engine.store().migrate(0).await.unwrap();
    for unit in ["1m", "1h"] {
        let peaks = format!(
            "SELECT toString(arraySort(groupArray((toHour(window), key, peak_rss_bytes, open_file_descriptors)))) \
             FROM group_peaks_{unit} FINAL WHERE group_by = 'pod'"
        );
        assert_eq!(
            engine.text(&peaks).await,
            "[(5,'',7,3),(6,'',5,NULL),(6,'u',4,NULL)]"
        );
        let processes = format!(
            "SELECT toString(arraySort(groupArray((name, pod_uid, cpu_time_ns_delta)))) FROM process_samples_{unit} FINAL"
        );
        let expected = "[('a','',30),('a','u',400),('b','',1)]";
        assert_eq!(engine.text(&processes).await, expected, "{unit} as it is read");
        engine
            .execute(&format!("OPTIMIZE TABLE process_samples_{unit} FINAL"))
            .await;
        assert_eq!(engine.text(&processes).await, expected, "{unit} once merged");
    }
}
