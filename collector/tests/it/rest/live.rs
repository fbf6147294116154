//! The live top over SSE and WebSocket, beside gRPC's.

use std::time::Duration;

use procscope_proto::v1;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::get;
use crate::support::{Agent, Collector, Engine, PATIENCE, now_ms, push, sample, snapshot, wait_until};

/// The next event of a stream: its name and its data.
pub(super) async fn event(stream: &mut BufReader<TcpStream>) -> (String, Value) {
    let (mut name, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        let read = timeout(PATIENCE, stream.read_line(&mut line))
            .await
            .expect("in time")
            .unwrap();
        assert!(read > 0, "the stream ended");
        if let Some(event) = line.strip_prefix("event: ") {
            event.trim().clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            return (name, serde_json::from_str(data).unwrap());
        }
    }
}

pub(super) async fn listen(collector: &Collector, path: &str, headers: &str) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(collector.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    BufReader::new(socket)
}

pub(super) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The next text message of a WebSocket; frames of a server are not masked.
async fn message(stream: &mut BufReader<TcpStream>) -> Value {
    let mut head = [0; 2];
    timeout(PATIENCE, stream.read_exact(&mut head))
        .await
        .expect("in time")
        .unwrap();
    assert_eq!(head[0], 0x81, "a whole text message");
    let length = match head[1] {
        126 => usize::from(stream.read_u16().await.unwrap()),
        127 => usize::try_from(stream.read_u64().await.unwrap()).unwrap(),
        length => usize::from(length),
    };
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await.unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test]
async fn a_new_interval_reaches_every_kind_of_listener_with_the_same_numbers() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let frame = |agent: &mut Agent, at: i64, cpu_ms| {
        agent.freeze(&snapshot(
            "h",
            time_ms + at * 1_000,
            vec![sample(1, "a", cpu_ms, 1)],
        ))
    };
    push(&collector, &[frame(&mut agent, 0, 250)]).await.unwrap();

    let mut events = listen(&collector, "/api/v1/live?intervals=1&group_by=process", "").await;
    let mut socket = listen(
        &collector,
        "/api/v1/live/ws?intervals=1&group_by=process",
        &format!("Origin: http://localhost\r\n{UPGRADE}"),
    )
    .await;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        socket.read_line(&mut line).await.unwrap();
    }
    let request = v1::WatchTopProcessesRequest {
        query: Some(v1::ListTopProcessesRequest {
            last_intervals: 1,
            group_by: v1::GroupBy::Process.into(),
            ..Default::default()
        }),
    };
    let mut grpc = collector
        .query()
        .await
        .watch_top_processes(request)
        .await
        .unwrap()
        .into_inner();
    for (at, cpu_ms) in [(0, 250), (1, 500)] {
        if at > 0 {
            push(&collector, &[frame(&mut agent, at, cpu_ms)]).await.unwrap();
        }
        let top = grpc.message().await.unwrap().unwrap().top.unwrap();
        let (name, event) = event(&mut events).await;
        let message = message(&mut socket).await;
        assert_eq!((name.as_str(), &event), ("top", &message));
        assert_eq!(event["processes"], serde_json::to_value(&top.processes).unwrap());
        assert_eq!(
            event["processes"][0]["avg_cpu_percent"].as_f64(),
            Some(cpu_ms as f64 / 10.0)
        );
    }
    let watchers = "procscope_collector_watchers";
    assert_eq!(collector.metric(watchers).await, 3);
    drop((events, socket, grpc));
    wait_until("all have left", || async {
        collector.metric(watchers).await == 0
    })
    .await;

    // A page from elsewhere never listens.
    for origin in ["http://evil.example", "http://localhost:1"] {
        let (status, _, _) = get(&collector, "/api/v1/live/ws", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(status, 403, "{origin}");
    }
    // All are told when the collector stops.
    let mut last = listen(&collector, "/api/v1/live", "").await;
    event(&mut last).await;
    let stopped = tokio::spawn(collector.stop());
    let (name, problem) = loop {
        let told = event(&mut last).await;
        if told.0 != "top" {
            break told;
        }
    };
    assert_eq!((name.as_str(), &problem["status"]), ("problem", &503.into()));
    timeout(Duration::from_secs(30), stopped)
        .await
        .expect("it stops")
        .unwrap();
}
