//! The interface as the official crate `clickhouse` meets it: the way the collector takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at once"
)]

mod support;

use clickhouse::{Row, error::Error};
use serde::{Deserialize, Serialize};
use support::Engine;

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Sample {
    host: String,
    pid: u32,
    cpu_time_ns: u64,
    exit_code: Option<i32>,
}

fn sample(pid: u32) -> Sample {
    Sample {
        host: format!("h{}", pid % 3),
        pid,
        cpu_time_ns: u64::from(pid) * 1000,
        exit_code: pid.is_multiple_of(2).then_some(1),
    }
}

async fn table(engine: &Engine) -> clickhouse::Client {
    let client = engine.client();
    let create = "CREATE TABLE samples (host String, pid UInt32, cpu_time_ns UInt64, exit_code Nullable(Int32)) ENGINE = MergeTree ORDER BY pid";
    client.query(create).execute().await.unwrap();
    client
}

#[tokio::test]
async fn rows_go_in_and_come_out() {
    let engine = Engine::start();
    let client = table(&engine).await;
    let mut insert = client.insert::<Sample>("samples").await.unwrap();
    for pid in 0..100_000 {
        insert.write(&sample(pid)).await.unwrap();
    }
    insert.end().await.unwrap();
    let rows = client
        .query("SELECT ?fields FROM samples ORDER BY pid")
        .fetch_all::<Sample>()
        .await
        .unwrap();
    assert_eq!(rows.len(), 100_000);
    assert!(rows.iter().zip(0..).all(|(row, pid)| *row == sample(pid)));
    let none = client
        .query("SELECT ?fields FROM samples WHERE pid > 1000000")
        .fetch_all::<Sample>()
        .await
        .unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn every_compression_of_the_client_works() {
    let engine = Engine::start();
    let client = table(&engine).await;
    for compression in [clickhouse::Compression::None, clickhouse::Compression::Lz4] {
        let client = client.clone().with_compression(compression);
        let mut insert = client.insert::<Sample>("samples").await.unwrap();
        for pid in 0..10_000 {
            insert.write(&sample(pid)).await.unwrap();
        }
        insert.end().await.unwrap();
        let sum: u64 = client
            .query("SELECT sum(number) FROM numbers(?)")
            .bind(100_000)
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(sum, 4_999_950_000);
    }
    assert_eq!(
        client
            .query("SELECT count() FROM samples")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        20_000
    );
}

#[tokio::test]
async fn parameters_are_bound_by_the_engine() {
    let engine = Engine::start();
    let client = engine.client();
    for text in [
        "plain",
        "it's",
        "a\\b",
        "tab\tline\nend",
        "{x:String}",
        "\u{1F980}",
        "'; DROP TABLE t --",
        "",
    ] {
        let found: String = client
            .query("SELECT {text:String}")
            .param("text", text)
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(found, text);
    }
    let sum: u64 = client
        .query("SELECT sum(number) FROM numbers({count:UInt64}) WHERE number IN {some:Array(UInt64)}")
        .param("count", 100)
        .param("some", vec![1_u64, 5, 500])
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(sum, 6);
}

/// One block of two columns in the Native format, as the collector writes them by hand.
fn native_block(numbers: &[u32]) -> Vec<u8> {
    let rows = u8::try_from(numbers.len()).unwrap();
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let mut block = vec![2, rows];
    block.extend([text("pid"), text("UInt32")].concat());
    block.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    block.extend([text("host"), text("String")].concat());
    block.extend(numbers.iter().flat_map(|number| text(&format!("h{number}"))));
    block
}

#[tokio::test]
async fn native_blocks_are_inserted_with_a_token_once() {
    let engine = Engine::start();
    let client = engine.client();
    let create = "CREATE TABLE t (pid UInt32, host LowCardinality(String)) ENGINE = MergeTree ORDER BY pid SETTINGS non_replicated_deduplication_window = 100";
    client.query(create).execute().await.unwrap();
    for token in ["a", "a", "b"] {
        let mut insert = client
            .insert_formatted_with("INSERT INTO t (pid, host) FORMAT Native")
            .with_setting("insert_deduplication_token", token)
            .with_setting("async_insert", "0");
        insert.send(native_block(&[1, 2, 3]).into()).await.unwrap();
        insert.send(native_block(&[4]).into()).await.unwrap();
        insert.end().await.unwrap();
    }
    let found: (u64, String) = client
        .query("SELECT count(), max(host) FROM t")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(found, (8, "h4".to_owned()));
}

#[tokio::test]
async fn errors_reach_the_client_with_their_code() {
    let engine = Engine::start();
    let client = engine.client();
    let check = |outcome: Result<u8, Error>, code: &str| match outcome {
        Err(Error::BadResponse(text)) => assert!(
            text.starts_with(&format!("Code: {code}. DB::Exception: ")),
            "{text}"
        ),
        other => panic!("{other:?}"),
    };
    check(client.query("SELECT nothing").fetch_one().await, "47");
    check(
        client
            .clone()
            .with_setting("nothing", "1")
            .query("SELECT 1")
            .fetch_one()
            .await,
        "115",
    );
    check(
        client
            .clone()
            .with_password("wrong")
            .query("SELECT 1")
            .fetch_one()
            .await,
        "516",
    );
    let broken = client
        .query("SELECT throwIf(number = 500000)::UInt8 FROM numbers(1000000)")
        .fetch_all::<u8>()
        .await;
    check(broken.map(|rows| rows[0]), "395");
    let missing = client.insert_formatted_with("INSERT INTO nothing FORMAT TSV");
    let mut missing = missing;
    let sent = missing.send("1\n".into()).await;
    let outcome = match sent {
        Ok(()) => missing.end().await,
        Err(error) => Err(error),
    };
    assert!(outcome.is_err());
}

#[tokio::test]
async fn a_native_insert_of_many_rows_streams() {
    let engine = Engine::start();
    let client = engine.client();
    client
        .query("CREATE TABLE t (pid UInt32, host String) ENGINE = MergeTree ORDER BY pid")
        .execute()
        .await
        .unwrap();
    let numbers: Vec<u32> = (0..100).collect();
    let block = bytes::Bytes::from(native_block(&numbers));
    let mut insert = client.insert_formatted_with("INSERT INTO t (pid, host) FORMAT Native");
    for _ in 0..2000 {
        insert.send(block.clone()).await.unwrap();
    }
    insert.end().await.unwrap();
    let found: (u64, u64) = client
        .query("SELECT count(), sum(pid) FROM t")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(found, (200_000, 2000 * 4950));
}
