//! Those who listen badly: who reads nothing is dropped, and who comes when all places are taken is told so.

use std::time::Duration;

use procscope_proto::v1::{self, query_service_client::QueryServiceClient};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic::transport::Channel;

use super::{
    get,
    live::{UPGRADE, event, listen},
};
use crate::support::{Agent, Collector, Engine, PATIENCE, now_ms, push, sample, snapshot, wait_until};

/// How long an answer may stay unread here.
const UNREAD_MAX: Duration = Duration::from_secs(2);

const EVERYTHING: &str = "intervals=1&group_by=process&limit=1000";

/// A connection whose other side holds as little as the kernel allows.
async fn narrow(collector: &Collector, path: &str, headers: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut socket = socket.connect(collector.http).await.unwrap();
    let request = format!("GET {path}?{EVERYTHING} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

fn everything() -> v1::WatchTopProcessesRequest {
    v1::WatchTopProcessesRequest {
        query: Some(v1::ListTopProcessesRequest {
            last_intervals: 1,
            group_by: v1::GroupBy::Process.into(),
            limit: 1_000,
            ..Default::default()
        }),
    }
}

/// A snapshot of which an answer has a megabyte or so.
fn many(time_ms: i64) -> v1::Snapshot {
    let samples = (0..1_000_u32).map(|number| {
        let mut row = sample(1, &format!("process-{number}"), 10, 1);
        row.process_id = [&number.to_be_bytes()[..], &[7; 12]].concat();
        row.pid = number + 1;
        row
    });
    snapshot("h", time_ms, samples.collect())
}

#[tokio::test]
async fn who_reads_nothing_is_dropped_and_counted_and_holds_nobody_up() {
    let engine = Engine::start();
    let collector = Collector::start_as(engine.config(), |config| config.unread_max = UNREAD_MAX).await;
    collector.wait_ready().await;
    let mut agent = Agent::new(1);
    let start_ms = now_ms();
    push(&collector, &[agent.freeze(&many(start_ms))]).await.unwrap();

    let idle_events = narrow(&collector, "/api/v1/live", "").await;
    let idle_socket = narrow(&collector, "/api/v1/live/ws", UPGRADE).await;
    let channel = Channel::from_shared(format!("http://{}", collector.grpc))
        .unwrap()
        .initial_stream_window_size(65_535);
    let mut client = QueryServiceClient::new(channel.connect().await.unwrap());
    let mut idle_grpc = client
        .watch_top_processes(everything())
        .await
        .unwrap()
        .into_inner();
    let mut reader = listen(&collector, &format!("/api/v1/live?{EVERYTHING}"), "").await;
    let watchers = "procscope_collector_watchers";
    let dropped = "procscope_collector_watchers_dropped_total";
    wait_until("all listen", || async { collector.metric(watchers).await == 4 }).await;

    // The one who reads has each interval while the others have none of them.
    let mut interval = 0;
    while collector.metric(dropped).await < 3 {
        let (name, top) = event(&mut reader).await;
        assert_eq!(name, "top");
        assert_eq!(top["processes"].as_array().unwrap().len(), 1_000);
        let expected = jiff::Timestamp::from_millisecond(start_ms + interval * 1_000).unwrap();
        let end: jiff::Timestamp = top["end"].as_str().unwrap().parse().unwrap();
        assert_eq!(end, expected);
        interval += 1;
        assert!(interval < 100, "nobody was dropped in {interval} intervals");
        let next = many(start_ms + interval * 1_000);
        push(&collector, &[agent.freeze(&next)]).await.unwrap();
    }
    event(&mut reader).await;
    assert_eq!(collector.metric(watchers).await, 1);
    assert_eq!(collector.metric(dropped).await, 3);
    // What they left unread is still theirs, and then their stream ends.
    timeout(PATIENCE, async {
        while idle_grpc.message().await.unwrap().is_some() {}
    })
    .await
    .expect("it ends");
    drop((idle_events, idle_socket, reader));
    collector.stop().await;
}

#[tokio::test]
async fn sixty_four_listen_and_the_next_is_told_so_whatever_it_speaks() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let first = snapshot("h", now_ms(), vec![sample(1, "a", 250, 1)]);
    push(&collector, &[Agent::new(1).freeze(&first)]).await.unwrap();
    let mut events = listen(&collector, "/api/v1/live", "").await;
    event(&mut events).await;
    let socket: BufReader<TcpStream> = listen(&collector, "/api/v1/live/ws", UPGRADE).await;
    let watchers = "procscope_collector_watchers";
    wait_until("both listen", || async { collector.metric(watchers).await == 2 }).await;
    let mut client = collector.query().await;
    let mut streams = Vec::new();
    for _ in 2..64 {
        streams.push(client.watch_top_processes(everything()).await.unwrap());
    }
    assert_eq!(collector.metric(watchers).await, 64);

    let refused = client.watch_top_processes(everything()).await.unwrap_err();
    assert!(
        refused.message().contains("64 watch already, which is the most"),
        "{refused:?}"
    );
    let (status, head, problem) = get(&collector, "/api/v1/live", "").await;
    assert!(status == 503 && head.contains("retry-after: 10"), "{head}");
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!(problem["detail"], "64 watch already, which is the most");
    let mut one_more = listen(&collector, "/api/v1/live/ws", UPGRADE).await;
    let mut status = String::new();
    one_more.read_line(&mut status).await.unwrap();
    assert!(status.starts_with("HTTP/1.1 503 "), "{status}");
    let turned_away = "procscope_collector_refused_total{reason=\"watchers\"}";
    assert_eq!(collector.metric(turned_away).await, 3);

    // Whoever leaves makes room for one.
    drop(socket);
    wait_until("a place is free", || async {
        collector.metric(watchers).await == 63
    })
    .await;
    let mut last = client
        .watch_top_processes(everything())
        .await
        .unwrap()
        .into_inner();
    let top = last.message().await.unwrap().unwrap().top.unwrap();
    assert_eq!(top.processes.len(), 1);
    drop((events, streams, last));
    collector.stop().await;
}
