//! What nobody waits for any more is not computed any more.

use std::time::{Duration, Instant};

use procscope_proto::v1;
use tokio::io::AsyncWriteExt as _;
use tonic::Code;

use crate::support::{Agent, Collector, Engine, now_ms, push, sample, snapshot, wait_until};

/// Questions of the collector that run in the engine: they alone may have so many rows.
const RUNNING: &str = "SELECT count() FROM system.processes WHERE Settings['max_result_rows'] = '200000' AND query LIKE \
    '%process_samples%' AND elapsed > 0.3";

#[tokio::test]
async fn a_question_that_nobody_waits_for_stops_in_the_engine() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms() - 60_000;
    let frames: Vec<_> = (0..60)
        .map(|at| agent.freeze(&snapshot("h", time_ms + at * 1_000, vec![sample(1, "a", 1, 1)])))
        .collect();
    push(&collector, &frames).await.unwrap();
    // Each row takes a tenth of a second, a block at most three; the collector allows a question ten.
    engine
        .execute("RENAME TABLE process_samples TO slow_samples")
        .await;
    engine
        .execute(
            "CREATE VIEW process_samples AS SELECT * FROM slow_samples WHERE sleepEachRow(0.1) = 0 SETTINGS \
             max_block_size = 4, function_sleep_max_microseconds_per_block = 60000000",
        )
        .await;

    let is_running = async || engine.number(RUNNING).await > 0;
    let (_, shown) = engine
        .post(
            "SELECT query_id, elapsed, substring(query, 1, 200) FROM system.processes",
            b"",
        )
        .await;
    println!("{shown}");
    let path = format!(
        "/api/v1/processes/top?start={}&end={}",
        time_ms / 1_000 - 1,
        time_ms / 1_000 + 60
    );
    let mut socket = tokio::net::TcpStream::connect(collector.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    wait_until("the question runs", is_running).await;
    let left = Instant::now();
    drop(socket);
    wait_until("nobody waits, so it stops", || async { !is_running().await }).await;
    println!("REST: {:?} from leaving to the end in the engine", left.elapsed());
    assert!(left.elapsed() < Duration::from_secs(4), "{:?}", left.elapsed());

    // A deadline of gRPC ends the question in the same way, and is told as such.
    let mut query = collector.query().await;
    let mut request = tonic::Request::new(v1::ListTopProcessesRequest {
        range: crate::support::range(time_ms - 1_000, time_ms + 60_000),
        ..v1::ListTopProcessesRequest::default()
    });
    request.set_timeout(Duration::from_secs(1));
    let (asked, ()) = tokio::join!(query.list_top_processes(request), async {
        wait_until("the question runs", is_running).await;
    });
    let told = asked.unwrap_err();
    // Told by the collector or, at the same time, by the client itself.
    assert!(
        [Code::DeadlineExceeded, Code::Cancelled].contains(&told.code()),
        "{told}"
    );
    let left = Instant::now();
    wait_until("the time is over, so it stops", || async { !is_running().await }).await;
    assert!(left.elapsed() < Duration::from_secs(4), "{:?}", left.elapsed());
    collector.stop().await;
}
