//! Starting, stopping, dying, cancelling: what happens around queries.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at once"
)]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use support::{Engine, PASSWORD, run_to_end, wait_until};

const LONG: &str = "SELECT count() FROM system.numbers WHERE NOT ignore(sipHash64(number))";

fn running(engine: &Engine) -> String {
    engine.sql("SELECT count() FROM system.processes WHERE query LIKE '%system.numbers%' AND query NOT LIKE '%processes%'")
}

#[test]
fn acknowledged_rows_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start_in(dir.path(), &[]);
    engine.sql("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a");
    for batch in 0..5 {
        engine.sql(&format!("INSERT INTO t VALUES ({batch})"));
    }
    engine.kill();
    let engine = Engine::start_in(dir.path(), &[]);
    assert_eq!(engine.sql("SELECT count(), sum(a) FROM t"), "5\t10\n");
    let (code, _) = engine.terminate();
    assert_eq!(code, Some(0));
    let engine = Engine::start_in(dir.path(), &[]);
    assert_eq!(engine.sql("SELECT count(), sum(a) FROM t"), "5\t10\n");
}

#[test]
fn a_token_deduplicates_also_after_kill_9_and_in_views() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start_in(dir.path(), &[]);
    let window = "SETTINGS non_replicated_deduplication_window = 100";
    engine.sql(&format!(
        "CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a {window}"
    ));
    engine.sql(&format!(
        "CREATE TABLE sums (s UInt64) ENGINE = MergeTree ORDER BY s {window}"
    ));
    engine.sql("CREATE MATERIALIZED VIEW v TO sums AS SELECT sum(a) AS s FROM t");
    let insert = |engine: &Engine, token: &str| {
        let parameters = format!(
            "query=INSERT+INTO+t+FORMAT+TSV&insert_deduplication_token={token}&deduplicate_blocks_in_dependent_materialized_views=1"
        );
        assert_eq!(engine.post(&parameters, b"1\n2\n").0, 200);
    };
    insert(&engine, "a");
    insert(&engine, "a");
    insert(&engine, "b");
    assert_eq!(
        engine.sql("SELECT (SELECT count() FROM t), (SELECT count() FROM sums)"),
        "4\t2\n"
    );
    engine.kill();
    let engine = Engine::start_in(dir.path(), &[]);
    insert(&engine, "a");
    insert(&engine, "b");
    assert_eq!(
        engine.sql("SELECT (SELECT count() FROM t), (SELECT count() FROM sums)"),
        "4\t2\n"
    );
}

#[test]
fn a_body_that_breaks_off_inserts_nothing() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a");
    for length in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut socket = TcpStream::connect(&engine.address).unwrap();
        write!(
            socket,
            "POST /?query=INSERT+INTO+t+FORMAT+TSV HTTP/1.1\r\nHost: localhost\r\nX-ClickHouse-User: procscope\r\nX-ClickHouse-Key: {PASSWORD}\r\n{length}\r\n\r\n"
        )
        .unwrap();
        let rows = "1\n".repeat(1000);
        if length.starts_with('T') {
            write!(socket, "{:x}\r\n{rows}\r\n", rows.len()).unwrap();
        } else {
            write!(socket, "{rows}").unwrap();
        }
        socket.flush().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        drop(socket);
    }
    let idle = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'";
    wait_until("both inserts have ended", Duration::from_secs(10), || {
        engine.sql(idle) == "0\n"
    });
    assert_eq!(engine.sql("SELECT count() FROM t"), "0\n");
}

#[test]
fn a_query_ends_when_its_client_has_gone() {
    let engine = Engine::start();
    let mut socket = TcpStream::connect(&engine.address).unwrap();
    write!(
        socket,
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-ClickHouse-User: procscope\r\nX-ClickHouse-Key: {PASSWORD}\r\nContent-Length: {}\r\n\r\n{LONG}",
        LONG.len()
    )
    .unwrap();
    wait_until("the query runs", Duration::from_secs(10), || {
        running(&engine) == "1\n"
    });
    drop(socket);
    wait_until("the query has ended", Duration::from_secs(10), || {
        running(&engine) == "0\n"
    });
}

#[test]
fn a_query_is_killed_by_the_id_that_its_client_gave() {
    let engine = Engine::start();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| engine.post("query_id=mine", LONG.as_bytes()));
        wait_until("the query runs", Duration::from_secs(10), || {
            running(&engine) == "1\n"
        });
        let (status, text) = engine.post("query_id=mine", b"SELECT 1");
        assert!(status == 500 && text.starts_with("Code: 216."), "{status} {text}");
        let killed = engine.sql("KILL QUERY WHERE query_id = 'mine' SYNC");
        assert!(killed.contains("\tmine\t"), "{killed}");
        let (status, text) = slow.join().unwrap();
        assert!(status == 500 && text.starts_with("Code: 394."), "{status} {text}");
    });
    assert_eq!(engine.post("query_id=mine", b"SELECT 1").0, 200);
}

#[test]
fn a_stop_lets_short_queries_end_and_cancels_long_ones() {
    let engine = Engine::start();
    let address = engine.address.clone();
    std::thread::scope(|scope| {
        let ask = |statement: &'static str| {
            let (url, user) = (format!("http://{address}/"), format!("procscope:{PASSWORD}"));
            scope.spawn(move || support::curl(&url, &["-u", &user, "--data-binary", statement], b""))
        };
        let short = ask(
            "SELECT sleep(2), 'short', count() FROM system.numbers WHERE number < 5 LIMIT 1 SETTINGS max_rows_to_read = 5, read_overflow_mode = 'break'",
        );
        let long = ask(LONG);
        wait_until("both run", Duration::from_secs(10), || running(&engine) == "2\n");
        let (code, took) = engine.terminate();
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(12), "{took:?}");
        assert_eq!(short.join().unwrap().status, 200);
        assert_ne!(long.join().unwrap().status, 200);
    });
}

#[test]
fn what_hinders_the_start_is_one_line_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start_in(dir.path(), &[]);
    let other = tempfile::tempdir().unwrap();
    let check = |dir: &std::path::Path, extra: &[&str], code: i32, words: &[&str]| {
        let output = run_to_end(dir, extra);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        let line = text.lines().last().unwrap_or_default();
        assert!(
            line.starts_with("procscope-engine: error: ") && words.iter().all(|word| line.contains(word)),
            "{text}"
        );
    };
    check(
        dir.path(),
        &[],
        1,
        &["another engine", &engine.pid().to_string(), "--data-dir"],
    );
    let empty = other.path();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let port_in_use = std::process::Command::new(env!("CARGO_BIN_EXE_procscope-engine"))
        .args(["--listen", &address, "--password-file"])
        .arg(dir.path().join("password"))
        .arg("--data-dir")
        .arg(empty.join("data"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&port_in_use.stderr).into_owned();
    assert_eq!(port_in_use.status.code(), Some(1));
    assert!(
        text.contains(&address) && text.contains("store.url") && text.contains("--store-url"),
        "{text}"
    );
    check(
        empty,
        &["--library", "/nonexistent/libchdb.so"],
        1,
        &[
            "/nonexistent/libchdb.so",
            "cargo xtask setup",
            "PROCSCOPE_LIBCHDB",
        ],
    );
    fs::write(empty.join("no-library"), "text").unwrap();
    let no_library = empty.join("no-library").display().to_string();
    check(
        empty,
        &["--library", &no_library],
        1,
        &["no-library", "cargo xtask setup"],
    );
    fs::write(empty.join("engine.toml"), "colour = 'red'\n").unwrap();
    let config = empty.join("engine.toml").display().to_string();
    check(
        empty,
        &["--config", &config],
        2,
        &["engine.toml, line 1", "colour"],
    );
    let output = run_to_end(empty, &["--insecure=perhaps"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_data_folder_is_private_and_merges_run_in_the_sandbox() {
    let engine = Engine::start();
    assert_eq!(fs::metadata(engine.data_dir()).unwrap().mode() & 0o777, 0o700);
    engine.sql("CREATE TABLE t (time DateTime64(3), a UInt32, s LowCardinality(String)) ENGINE = MergeTree PARTITION BY toDate(time) ORDER BY a TTL toDateTime(time) + INTERVAL 7 DAY");
    for _ in 0..12 {
        engine.sql("INSERT INTO t SELECT now64(3), number, toString(number % 10) FROM numbers(20000)");
    }
    engine.sql("OPTIMIZE TABLE t FINAL");
    assert_eq!(engine.sql("SELECT count() FROM t"), "240000\n");
    wait_until("the parts are merged", Duration::from_secs(20), || {
        engine.sql("SELECT max(c) FROM (SELECT count() AS c FROM system.parts WHERE active AND table = 't' GROUP BY partition)") == "1\n"
    });
    engine.sql("ALTER TABLE t UPDATE s = 'x' WHERE a = 1 SETTINGS mutations_sync = 2");
    assert_eq!(engine.sql("SELECT countIf(s = 'x') FROM t"), "12\n");
    // Sorting and grouping that do not fit into memory use the data folder.
    let spill = "SELECT count() FROM (SELECT number, toString(number) AS s FROM numbers(1000000) ORDER BY s SETTINGS max_bytes_before_external_sort = 10000000, max_bytes_ratio_before_external_sort = 0)";
    assert_eq!(engine.sql(spill), "1000000\n");
    let backup = engine.sql("BACKUP TABLE t TO File('b1')");
    assert!(backup.contains("BACKUP_CREATED"), "{backup}");
    engine.sql("DROP TABLE t SYNC");
    engine.sql("RESTORE TABLE t FROM File('b1')");
    assert_eq!(engine.sql("SELECT count() FROM t"), "240000\n");
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a");
    let started = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..24 {
            let engine = &engine;
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(
                        engine
                            .post("", format!("INSERT INTO t VALUES ({client})").as_bytes())
                            .0,
                        200
                    );
                    assert_eq!(
                        engine.post("", b"SELECT sum(number) FROM numbers(100000)").1,
                        "4999950000\n"
                    );
                }
            });
        }
    });
    assert_eq!(engine.sql("SELECT count() FROM t"), "120\n");
    assert!(started.elapsed() < Duration::from_mins(1));
}

#[test]
fn idle_memory_is_bounded() {
    let engine = Engine::start();
    engine.sql("SELECT 1");
    assert!(engine.rss_mb() < 350, "{} MiB", engine.rss_mb());
    // A query beyond its limit is refused, and the engine goes on.
    let (status, text) = engine.post(
        "max_memory_usage=0",
        b"SELECT length(groupArray(toString(number))) FROM numbers(300000000)",
    );
    assert!(status == 500 && text.starts_with("Code: 241."), "{status} {text}");
    engine.sql("SYSTEM JEMALLOC PURGE");
    assert_eq!(engine.sql("SELECT 1"), "1\n");
}

#[test]
fn a_slow_head_does_not_stop_others() {
    let engine = Engine::start();
    let mut slow = TcpStream::connect(&engine.address).unwrap();
    slow.write_all(b"GET /ping HTTP/1.1\r\n").unwrap();
    assert_eq!(engine.sql("SELECT 1"), "1\n");
    slow.write_all(b"Host: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("Ok.\n"), "{answer}");
}

#[test]
fn a_connection_that_asks_nothing_is_closed() {
    let engine = Engine::start();
    for said in [&b"P"[..], b"GET /?query=SELECT%201 HTTP/1.1\r\n", b""] {
        let mut stream = TcpStream::connect(&engine.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(said).unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        // An answer that says why may come first.
        stream.read_to_end(&mut rest).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    assert_eq!(engine.sql("SELECT 1"), "1\n");
}
