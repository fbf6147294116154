//! The interface as curl meets it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at once"
)]

mod support;

use support::{Engine, PASSWORD, curl};

#[test]
fn a_select_has_status_headers_and_rows() {
    let engine = Engine::start();
    let answer = engine.curl(
        "query_id=my-id",
        &["--data-binary", "SELECT number FROM numbers(3)"],
        b"",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, "0\n1\n2\n"));
    assert_eq!(answer.header("x-clickhouse-query-id"), Some("my-id"));
    assert_eq!(answer.header("x-clickhouse-format"), Some("TabSeparated"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/tab-separated-values; charset=UTF-8")
    );
    assert!(answer.header("x-clickhouse-timezone").is_some());
    assert!(answer.header("x-clickhouse-server-display-name").is_some());
    let summary: serde_json::Value =
        serde_json::from_str(answer.header("x-clickhouse-summary").unwrap()).unwrap();
    assert_eq!(summary["read_rows"], "3");
}

#[test]
fn ping_is_open_and_all_else_needs_the_password() {
    let engine = Engine::start();
    for path in ["/ping", "/replicas_status", "/"] {
        let answer = curl(&format!("{}{path}", engine.url()), &[], b"");
        assert_eq!((answer.status, answer.text().as_str()), (200, "Ok.\n"), "{path}");
    }
    for arguments in [
        &[][..],
        &["-u", "procscope:wrong"],
        &["-u", "somebody:s3cret-of-the-test"],
        &["-H", "X-ClickHouse-User: procscope"],
    ] {
        let answer = curl(&format!("{}/?query=SELECT+1", engine.url()), arguments, b"");
        assert_eq!(
            (answer.status, answer.header("x-clickhouse-exception-code")),
            (403, Some("516")),
            "{arguments:?}"
        );
        assert!(
            answer.text().starts_with("Code: 516. DB::Exception: ")
                && answer.text().contains("(AUTHENTICATION_FAILED) (version ")
        );
    }
    let basic = curl(
        &format!("{}/?query=SELECT+1", engine.url()),
        &["-u", &format!("procscope:{PASSWORD}")],
        b"",
    );
    assert_eq!(basic.text(), "1\n");
    let url = format!(
        "{}/?query=SELECT+1&user=procscope&password={PASSWORD}",
        engine.url()
    );
    assert_eq!(curl(&url, &[], b"").text(), "1\n");
    assert_eq!(curl(&format!("{}/nothing", engine.url()), &[], b"").status, 404);
}

#[test]
fn a_page_from_elsewhere_is_refused() {
    let engine = Engine::start();
    for header in ["Host: evil.example", "Origin: http://evil.example"] {
        assert_eq!(
            engine.curl("query=SELECT+1", &["-H", header], b"").status,
            403,
            "{header}"
        );
    }
    assert_eq!(
        engine
            .curl("query=SELECT+1", &["-H", "Host: localhost:8123"], b"")
            .status,
        200
    );
}

#[test]
fn get_reads_only() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a");
    for query in [
        "INSERT+INTO+t+VALUES+(1)",
        "INSERT+INTO+t+SELECT+1",
        "DROP+TABLE+t",
        "CREATE+TABLE+u+(a+Int8)+ENGINE=Null",
    ] {
        let answer = engine.curl(&format!("query={query}"), &[], b"");
        assert_eq!(
            (answer.status, answer.header("x-clickhouse-exception-code")),
            (500, Some("164")),
            "{query}: {}",
            answer.text()
        );
    }
    assert_eq!(engine.curl("query=SELECT+count()+FROM+t", &[], b"").text(), "0\n");
    // A dashboard may set limits where it may only read.
    assert_eq!(
        engine
            .curl("query=SELECT+1&max_execution_time=5", &[], b"")
            .text(),
        "1\n"
    );
}

#[test]
fn an_insert_is_split_from_its_data_wherever_it_stands() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE t (a UInt32, s String) ENGINE = MergeTree ORDER BY a");
    let insert = |parameters: &str, body: &str| {
        let (status, text) = engine.post(parameters, body.as_bytes());
        assert_eq!(status, 200, "{parameters} {body}: {text}");
    };
    insert("query=INSERT+INTO+t+(a,s)+FORMAT+CSV", "1,\"a\"\n");
    insert("query=INSERT+INTO+t+VALUES", "(2,'b')");
    insert("query=INSERT+INTO+t+VALUES+(3,'c')", "");
    insert("", "INSERT INTO t FORMAT JSONEachRow\n{\"a\":4,\"s\":\"d\"}\n");
    insert(
        "",
        "/* x */ INSERT INTO t (a, s) SETTINGS max_insert_threads = 1 VALUES (5, 'e;f')",
    );
    insert("query=INSERT+INTO+t+FORMAT+TSV+", "6\tg\n");
    insert(
        "param_table=t",
        "INSERT INTO {table:Identifier} FORMAT TSV\n7\th\n",
    );
    insert("query=INSERT+INTO+t+FORMAT+Native", "");
    insert("", "INSERT INTO t SELECT 8, 'i'");
    assert_eq!(
        engine.sql("SELECT groupArray(a), groupArray(s) FROM (SELECT * FROM t ORDER BY a)"),
        "[1,2,3,4,5,6,7,8]\t['a','b','c','d','e;f','g','h','i']\n"
    );
}

#[test]
fn a_select_reads_the_data_of_its_insert() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE t (a UInt32, s String) ENGINE = MergeTree ORDER BY a");
    let head = "INSERT INTO t (a, s) SELECT a * {by:UInt32}, s FROM input('a UInt32, s String') \
                WHERE NOT throwIf(a IN (SELECT 3), 'three is taken') FORMAT";
    let insert = |rows: &str| engine.post("param_by=10", format!("{head} {rows}").as_bytes());
    assert_eq!(insert("CSV\n1,\"a\n\nDROP TABLE t;\"\n2,b\n").0, 200);
    let (status, text) = insert("TSV\n2\tc\n3\td\n");
    assert!(
        status == 500 && text.contains("three is taken"),
        "{status} {text}"
    );
    assert_eq!(insert("TSV\nno number\tc\n").0, 400);
    assert_eq!(engine.sql("SELECT groupArray(a) FROM t"), "[10,20]\n");
    // What was kept for it is gone.
    let left = std::fs::read_dir(engine.data_dir().join("clickhouse/uploads")).unwrap();
    assert_eq!(left.count(), 0);
    let (status, _) = engine.post("", b"INSERT INTO t (a) SELECT a FROM input('a UInt32')");
    assert_eq!(status, 501);
}

#[test]
fn data_is_never_run_as_sql() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s");
    let bodies = [
        "INSERT INTO t FORMAT CSV\n\"a\n\nDROP TABLE t; \"\n\n\"b\"\n",
        "INSERT INTO t VALUES ('c\n\nDROP TABLE t;')",
        "INSERT INTO t FORMAT LineAsString\nd\n\nDROP TABLE t\n",
    ];
    for body in bodies {
        assert_eq!(engine.post("", body.as_bytes()).0, 200, "{body}");
    }
    for body in [
        "INSERT INTO t SELECT 'x' FORMAT CSV\n1\n\nDROP TABLE t",
        "EXPLAIN INSERT INTO t VALUES ('x')\n\nDROP TABLE t",
        "SELECT 1; DROP TABLE t",
        "SELECT 1;\n\nDROP TABLE t",
    ] {
        let (status, text) = engine.post("", body.as_bytes());
        assert_ne!(status, 200, "{body}: {text}");
    }
    assert_eq!(
        engine.sql("SELECT count() > 3, countIf(s LIKE '%DROP TABLE t%') FROM t"),
        "1\t3\n"
    );
}

#[test]
fn errors_have_the_status_of_their_code() {
    let engine = Engine::start();
    let cases = [
        ("", "SELEC 1", 400, 62),
        ("", "SELECT 1; SELECT 2", 400, 62),
        ("", "", 400, 62),
        ("", "SELECT * FROM nothing", 404, 60),
        ("", "SELECT nothing", 404, 47),
        ("database=nothing", "SELECT 1", 404, 81),
        ("nothing=1", "SELECT 1", 404, 115),
        ("max_threads=many", "SELECT 1", 400, 27),
        (
            "max_execution_time=0.01",
            "SELECT max(sipHash64(number)) FROM numbers(10000000000)",
            408,
            159,
        ),
        (
            "max_memory_usage=10000000",
            "SELECT groupArray(number) FROM numbers(100000000)",
            500,
            241,
        ),
        ("", "SELECT {x:String}", 500, 456),
        ("compress=perhaps", "SELECT 1", 400, 36),
        ("query_id=same&compress=1", "SELECT throwIf(1)", 500, 395),
        ("", "SELECT * FROM file('/etc/passwd')", 403, 497),
        ("", "SELECT * FROM url('http://127.0.0.1/')", 403, 497),
        ("", "SELECT * FROM '/etc/passwd'", 403, 497),
        ("", "SELECT * FROM url\u{a0}('http://127.0.0.1/')", 403, 497),
        ("", "SELECT 1\0", 400, 62),
        (
            "",
            "CREATE TABLE t (a Int8) ENGINE = URL('http://127.0.0.1/', CSV)",
            403,
            497,
        ),
        ("", "SYSTEM SHUTDOWN", 403, 497),
        ("", "SELECT 1 INTO OUTFILE 'x'", 403, 497),
    ];
    for (parameters, statement, status, code) in cases {
        let answer = engine.curl(parameters, &["--data-binary", "@-"], statement.as_bytes());
        let found = (
            answer.status,
            answer.header("x-clickhouse-exception-code").map(str::to_owned),
        );
        assert_eq!(
            found,
            (status, Some(code.to_string())),
            "{parameters} {statement}: {}",
            answer.text()
        );
        let text = answer.text();
        assert!(
            text.starts_with(&format!("Code: {code}. DB::Exception: ")) && text.contains(" (version "),
            "{text}"
        );
    }
}

#[test]
fn an_error_in_the_middle_is_tagged_and_breaks_the_answer_off() {
    let engine = Engine::start();
    for parameters in [
        "max_block_size=1000",
        "max_block_size=1000&compress=0&enable_http_compression=1",
    ] {
        let answer = engine.curl(
            parameters,
            &[
                "--data-binary",
                "SELECT throwIf(number = 300000, 'here') FROM numbers(1000000)",
            ],
            b"",
        );
        let tag = answer.header("x-clickhouse-exception-tag").unwrap().to_owned();
        let text = answer.text();
        assert_eq!(
            (answer.status, answer.exit),
            (200, 18),
            "curl has to see that the answer is not complete"
        );
        assert!(
            text.ends_with(&format!("{tag}\r\n__exception__\r\n")),
            "{}",
            &text[text.len() - 300..]
        );
        let from = text.find("\r\n__exception__\r\n").unwrap();
        assert!(
            text[from..].contains(&format!(
                "\r\n__exception__\r\n{tag}\r\nCode: 395. DB::Exception: here"
            )),
            "{}",
            &text[from..]
        );
        // What came before is good rows.
        assert!(text[..from].lines().all(|line| line == "0"));
    }
}

#[test]
fn chunks_make_one_document() {
    let engine = Engine::start();
    for (format, lines) in [
        ("TSVWithNames", 300_001),
        ("CSVWithNamesAndTypes", 300_002),
        ("JSONCompactEachRowWithNames", 300_001),
        ("JSONEachRow", 300_000),
    ] {
        let text = engine.sql(&format!(
            "SELECT number AS n FROM numbers(300000) FORMAT {format}"
        ));
        assert_eq!(text.lines().count(), lines, "{format}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&engine.sql("SELECT number AS n FROM numbers(300000) FORMAT JSON")).unwrap();
    assert_eq!(
        (json["rows"].as_u64(), json["data"].as_array().unwrap().len()),
        (Some(300_000), 300_000)
    );
    // Native and RowBinary with a header go round whole.
    for format in ["Native", "RowBinaryWithNamesAndTypes", "Parquet", "ArrowStream"] {
        engine.sql("CREATE OR REPLACE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n");
        let answer = engine.curl(
            "",
            &[
                "--data-binary",
                &format!("SELECT number AS n FROM numbers(300000) FORMAT {format}"),
            ],
            b"",
        );
        let (status, text) = engine.post(&format!("query=INSERT+INTO+t+FORMAT+{format}"), &answer.body);
        assert_eq!(status, 200, "{format}: {text}");
        assert_eq!(
            engine.sql("SELECT count(), sum(n) FROM t"),
            "300000\t44999850000\n",
            "{format}"
        );
    }
    assert_eq!(engine.sql("SELECT 1 AS a WHERE 0 FORMAT TSVWithNames"), "a\n");
    assert_eq!(engine.sql("SHOW DATABASES LIKE 'sys%'"), "system\n");
    assert_eq!(engine.sql("EXISTS TABLE system.one"), "1\n");
    let totals = "SELECT number % 2 AS a, count() FROM numbers(4) GROUP BY a WITH TOTALS ORDER BY a";
    assert_eq!(engine.sql(totals), "0\t2\n1\t2\n\n0\t4\n");
}

#[test]
fn formats_are_chosen_as_by_a_server() {
    let engine = Engine::start();
    let select = &["--data-binary", "SELECT 1 AS a"][..];
    assert_eq!(
        engine.curl("default_format=JSONEachRow", select, b"").text(),
        "{\"a\":1}\n"
    );
    assert_eq!(
        engine
            .curl(
                "",
                &[
                    "-H",
                    "X-ClickHouse-Format: CSV",
                    "--data-binary",
                    "SELECT 'x' AS a"
                ],
                b""
            )
            .text(),
        "\"x\"\n"
    );
    let answer = engine.curl(
        "default_format=JSON",
        &["--data-binary", "SELECT 1 AS a FORMAT TSV"],
        b"",
    );
    assert_eq!(
        (answer.text().as_str(), answer.header("x-clickhouse-format")),
        ("1\n", Some("TSV"))
    );
}

#[test]
fn a_session_keeps_its_tables_and_is_locked_while_busy() {
    let engine = Engine::start();
    let ask = |parameters: &str, statement: &str| engine.post(parameters, statement.as_bytes());
    assert_eq!(ask("session_id=s", "CREATE TEMPORARY TABLE tt (a Int8)").0, 200);
    assert_eq!(ask("session_id=s", "INSERT INTO tt VALUES (1)").0, 200);
    assert_eq!(ask("session_id=s", "SELECT * FROM tt"), (200, "1\n".to_owned()));
    assert_eq!(ask("", "SELECT * FROM tt").0, 404);
    assert_eq!(
        engine
            .curl("session_id=s&query=SELECT+a+FROM+tt", &[], b"")
            .text(),
        "1\n"
    );
    assert_eq!(ask("session_id=s", "INSERT INTO tt VALUES (2)").0, 200);
    assert!(
        ask("session_id=other&session_check=1", "SELECT 1")
            .1
            .starts_with("Code: 372.")
    );
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| ask("session_id=s", "SELECT sleep(2)"));
        support::wait_until("the slow query runs", std::time::Duration::from_secs(5), || {
            engine.sql("SELECT count() FROM system.processes WHERE query LIKE '%sleep(2)%' AND query NOT LIKE '%processes%'") == "1\n"
        });
        let (status, text) = ask("session_id=s", "SELECT 1");
        assert!(status == 500 && text.starts_with("Code: 373."), "{status} {text}");
        assert_eq!(slow.join().unwrap().0, 200);
    });
    assert_eq!(
        ask("session_id=s&close_session=1", "SELECT count() FROM tt").1,
        "2\n"
    );
    assert_eq!(ask("session_id=s", "SELECT * FROM tt").0, 404);
}

#[test]
fn parameters_come_by_url_and_by_form() {
    let engine = Engine::start();
    let answer = engine.curl(
        "param_a=it%27s&param_n=5",
        &["--data-binary", "SELECT {a:String}, {n:UInt8} + 1"],
        b"",
    );
    assert_eq!(answer.text(), "it\\'s\t6\n");
    let form = [
        "-F",
        "query=SELECT {a:String} AS x FROM numbers({n:UInt64})",
        "-F",
        "param_a=y",
        "-F",
        "param_n=2",
    ];
    assert_eq!(
        engine.curl("default_format=CSV", &form, b"").text(),
        "\"y\"\n\"y\"\n"
    );
}

#[test]
fn a_go_client_is_told_revision_0() {
    let engine = Engine::start();
    let text = engine.sql("SELECT displayName(), version(), revision(), timezone()");
    assert_eq!(text.split('\t').nth(2), Some("0"));
}
