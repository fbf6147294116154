//! More than anybody should send: bounded memory, slowed down or refused, and nothing of it lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use procscope_collector::access::limits::Rate;
use procscope_proto::v1::{self, ingest_service_client::IngestServiceClient};
use tokio::{sync::Barrier, task::JoinSet};
use tonic::{Code, codec::CompressionEncoding, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    binary::Running,
    support::{Agent, Collector, Engine, Push, TOKEN, now_ms, sample, snapshot, wait_until},
};

/// Sends frames as an agent does: what is not acknowledged when a stream ends comes again on the next.
async fn deliver(channel: Channel, frames: &[v1::PushSnapshotsRequest]) -> usize {
    let (mut durable, mut streams) = (0, 0);
    while durable < frames.len() {
        streams += 1;
        let Ok(mut push) = Push::open(channel.clone(), Some(TOKEN)).await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        // The stream may end before it has taken all.
        for frame in &frames[durable..] {
            if push.requests.send(frame.clone()).await.is_err() {
                break;
            }
        }
        while let Ok(Some(answer)) = push.answers.message().await {
            durable = durable.max(usize::try_from(answer.durable_seq).unwrap());
            if durable >= frames.len() {
                break;
            }
        }
    }
    streams
}

/// A stream whose first frames are stored.
async fn let_in(channel: &Channel, frames: &[v1::PushSnapshotsRequest]) -> Push {
    loop {
        if let Ok(mut push) = Push::open(channel.clone(), Some(TOKEN)).await {
            for frame in frames {
                // The stream may end before it has taken all.
                drop(push.requests.send(frame.clone()).await);
            }
            if push.durable(u64::try_from(frames.len()).unwrap()).await.is_ok() {
                return push;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn frames(id: u8, count: i64, rows: u8) -> Vec<v1::PushSnapshotsRequest> {
    let (mut agent, time_ms) = (Agent::new(id), now_ms());
    (0..count)
        .map(|second| {
            let samples = (1..=rows).map(|n| sample(n, "a-process", 1, 1)).collect();
            agent.freeze(&snapshot(&format!("h{id}"), time_ms + second * 1_000, samples))
        })
        .collect()
}

pub(crate) fn signal(pid: u32, signal: &str) {
    let sent = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// The most memory that a process has held, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stands_still_keeps_the_memory_flat_and_loses_nothing() {
    const STREAMS: u8 = 100;
    const EACH: i64 = 30;
    let engine = Engine::start();
    let running = Running::start_anywhere(&engine);
    running.ready().await;
    let peak_before = peak_mib(running.pid());
    let everybody = Arc::new(Barrier::new(usize::from(STREAMS) + 1));
    let mut streams = JoinSet::new();
    for id in 1..=STREAMS {
        let (channel, everybody) = (running.channel().await, Arc::clone(&everybody));
        streams.spawn(async move {
            let frames = frames(id, EACH, 250);
            // Let in while the store still says what it has of them.
            let mut first = let_in(&channel, &frames[..1]).await;
            everybody.wait().await;
            everybody.wait().await;
            for frame in &frames[1..] {
                // The stream may end before it has taken all.
                drop(first.requests.send(frame.clone()).await);
            }
            // Until all is stored, or the stream is sent away.
            drop(first.durable(EACH.cast_unsigned()).await);
            deliver(channel, &frames).await
        });
    }
    everybody.wait().await;
    signal(engine.pid(), "-STOP");
    everybody.wait().await;
    // Some 450 MB once decoded are on offer; longer than a snapshot is held.
    wait_until("streams were sent away with their snapshots", || async {
        running
            .metric("procscope_collector_refused_total{reason=\"no_room\"}")
            .await
            > 0
    })
    .await;
    let peak = peak_mib(running.pid());
    signal(engine.pid(), "-CONT");
    while let Some(delivered) = streams.join_next().await {
        delivered.unwrap();
    }
    assert!(peak < 448, "{peak} MiB, {peak_before} before");
    let all = u64::from(STREAMS) * EACH.cast_unsigned();
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, all);
    assert_eq!(
        engine.number("SELECT count() FROM process_samples").await,
        all * 250
    );
}

#[tokio::test]
async fn what_would_grow_is_refused_before_it_does() {
    let engine = Engine::start();
    let running = Running::start_anywhere(&engine);
    running.ready().await;
    let before = peak_mib(running.pid());
    let agent = Agent::new(1);
    // Eight million rows of two bytes; and 15 MiB of the shortest rows there can be.
    let hollow = agent.frame(1, [0x32, 0].repeat((15 << 20) / 2));
    let row = [vec![0x32, 18, 0x0a, 16], vec![1; 16]].concat();
    let crowd = agent.frame(1, row.repeat((15 << 20) / row.len()));
    for (frame, says) in [(hollow, "names no process"), (crowd, "rows")] {
        let mut push = Push::open(running.channel().await, Some(TOKEN)).await.unwrap();
        push.send(&[frame]).await;
        let status = push.durable(1).await.unwrap_err();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains(says),
            "{status}"
        );
    }
    // A gigabyte of zeros in a megabyte: 15 such, sent at once.
    for _bomb in 0..15 {
        let bomb = agent.frame(1, vec![0; 256 << 20]);
        let mut client = IngestServiceClient::new(running.channel().await)
            .send_compressed(CompressionEncoding::Gzip)
            .max_encoding_message_size(1 << 30);
        let mut request = tonic::Request::new(tokio_stream::once(bomb));
        let token = format!("Bearer {TOKEN}").parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        let mut answers = client.push_snapshots(request).await.unwrap().into_inner();
        let status = answers.message().await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
    }
    let peak = peak_mib(running.pid());
    assert!(peak < before + 160, "{peak} MiB, {before} before");
    assert_eq!(
        running
            .metric("procscope_collector_refused_total{reason=\"too_long\"}")
            .await,
        15
    );
    assert_eq!(
        running
            .metric("procscope_collector_refused_total{reason=\"invalid\"}")
            .await,
        2
    );
}

#[tokio::test]
async fn an_agent_that_sends_more_than_its_rate_waits_and_loses_nothing() {
    let engine = Engine::start();
    let collector = Collector::start_as(engine.config(), |config| {
        config.rate = Rate {
            snapshots: 50,
            bytes: 1 << 20,
        };
    })
    .await;
    collector.wait_ready().await;
    let started = Instant::now();
    assert_eq!(
        deliver(collector.channel().await, &frames(1, 150, 1)).await,
        1,
        "on one stream"
    );
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(1_900),
        "100 beyond the first 50 take two seconds: {took:?}"
    );
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 150);
    assert!(collector.metric("procscope_collector_held_back_total").await >= 90);
    collector.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_old_ends_in_order_and_the_next_goes_on() {
    let engine = Engine::start();
    let collector = Collector::start_as(engine.config(), |config| {
        config.stream_max_age = Duration::from_secs(1);
        config.rate = Rate {
            snapshots: 60,
            bytes: 1 << 20,
        };
    })
    .await;
    collector.wait_ready().await;
    let streams = deliver(collector.channel().await, &frames(1, 300, 3)).await;
    assert!(streams >= 3, "{streams} streams");
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 300);
    assert_eq!(engine.number("SELECT count() FROM process_samples").await, 900);
    assert!(collector.metric("procscope_collector_streams_aged_total").await >= 2);
    collector.stop().await;
}

#[tokio::test]
async fn a_credential_of_one_agent_opens_few_streams_and_is_told_when_to_come_again() {
    let engine = Engine::start();
    let state = tempfile::tempdir().unwrap();
    let request = procscope_collector::access::tokens::Request {
        scope: procscope_collector::access::Scope::Ingest,
        name: String::new(),
        agent_id: Some(uuid::Uuid::from_bytes([1; 16])),
        host: None,
        expires: None,
    };
    let created = procscope_collector::access::tokens::create(state.path(), &request, 0).unwrap();
    let collector = Collector::start_as(engine.config(), |config| {
        config.state_dir = state.path().to_path_buf();
    })
    .await;
    collector.wait_ready().await;
    let mut open = Vec::new();
    let status = loop {
        match Push::open(collector.channel().await, Some(&created)).await {
            Ok(stream) => open.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (open.len(), status.code()),
        (4, Code::ResourceExhausted),
        "{status}"
    );
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() >= Duration::from_secs(1));
    assert_eq!(
        collector
            .metric("procscope_collector_refused_total{reason=\"streams\"}")
            .await,
        1
    );
    open.pop();
    wait_until("there is room again", || async {
        Push::open(collector.channel().await, Some(&created))
            .await
            .is_ok()
    })
    .await;
    collector.stop().await;
}
