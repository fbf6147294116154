//! What users may not do, above all the one that only reads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at once"
)]

mod support;

use support::{Engine, PASSWORD, READER_PASSWORD, curl};

#[test]
fn the_reader_reads_and_changes_nothing() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a");
    let user = format!("viewer:{READER_PASSWORD}");
    let ask = |statement: &str| {
        curl(
            &format!("{}/?max_execution_time=5", engine.url()),
            &["-u", &user, "--data-binary", statement],
            b"",
        )
    };
    // What it asks for stays within bounds, and may be less.
    let limit = "SELECT getSetting('max_memory_usage') <= 1073741824, getSetting('max_execution_time')";
    assert_eq!(ask(limit).text(), "1\t5\n");
    let many = ask("SELECT number FROM numbers(1000001)").text();
    assert!(many.contains("TOO_MANY_ROWS"), "{}", many.len());
    assert_eq!(ask("SELECT count() FROM t").text(), "0\n");
    for statement in [
        "INSERT INTO t VALUES (1)",
        "DROP TABLE t",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 SETTINGS `max_execution_time` = 0",
        "KILL QUERY WHERE 1",
        "SYSTEM FLUSH LOGS",
    ] {
        assert_ne!(ask(statement).status, 200, "{statement}");
    }
}

#[test]
fn no_setting_shows_a_file_to_anybody() {
    let engine = Engine::start();
    let file = "/proc/self/maps";
    let ask = |user: &str, parameters: &str, statement: &str| {
        curl(
            &format!("{}/?{parameters}", engine.url()),
            &["-u", user, "--data-binary", statement],
            b"",
        )
    };
    for user in [
        format!("viewer:{READER_PASSWORD}"),
        format!("procscope:{PASSWORD}"),
    ] {
        for (setting, format) in [
            ("format_template_resultset", "Template"),
            ("format_template_row", "Template"),
            ("format_schema", "Protobuf"),
            ("output_format_schema", "Protobuf"),
        ] {
            for answer in [
                ask(
                    &user,
                    "",
                    &format!("SELECT 1 FORMAT {format} SETTINGS {setting} = '{file}'"),
                ),
                ask(
                    &user,
                    &format!("{setting}={file}"),
                    &format!("SELECT 1 FORMAT {format}"),
                ),
            ] {
                let said = answer.text();
                assert!(
                    said.contains("Code: 497.") && said.contains(setting),
                    "{user} {said}"
                );
            }
        }
    }
    let inline = "SELECT 1 FORMAT Template SETTINGS format_template_row_format = '<${0:CSV}>'";
    assert_eq!(ask(&format!("procscope:{PASSWORD}"), "", inline).text(), "<1>");
}
