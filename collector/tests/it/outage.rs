//! Store and collector die and come back: nothing is lost, nothing is doubled.

use std::time::Duration;

use procscope_proto::v1;
use tonic::Code;

use crate::{
    floods::signal,
    support::{Agent, Collector, Engine, Push, TOKEN, now_ms, push, sample, snapshot, wait_until},
};

#[tokio::test]
async fn a_store_killed_and_restarted_midway_loses_and_doubles_nothing() {
    let mut engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let frames: Vec<_> = (0..60)
        .map(|s| {
            let samples = (1..=50).map(|id| sample(id, &format!("p{id}"), 10, 1)).collect();
            agent.freeze(&snapshot("h", time_ms + s * 1_000, samples))
        })
        .collect();
    let mut stream = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    // An agent is let in once the store has told what it has of it; from then on its stream outlives the store.
    let (first, rest) = frames.split_at(1);
    stream.send(first).await;
    stream.durable(1).await.unwrap();
    for (round, part) in rest.chunks(20).enumerate() {
        for frame in part {
            stream.send(std::slice::from_ref(frame)).await;
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        engine.kill();
        if round == 1 {
            wait_until("the outage is seen", || async {
                collector.get("/readyz").await.0 == 503
            })
            .await;
        }
        engine.restart();
    }
    stream.durable(60).await.unwrap();
    assert_eq!(
        engine.number("SELECT count() FROM process_samples").await,
        60 * 50
    );
    assert_eq!(
        engine
            .number("SELECT uniqExact(seq, pid) FROM process_samples")
            .await,
        60 * 50
    );
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 60);
    collector.wait_ready().await;
    collector.stop().await;
}

#[tokio::test]
async fn a_store_that_comes_later_is_waited_for() {
    let mut engine = Engine::start();
    engine.kill();
    let collector = Collector::start_without_store(engine.config()).await;
    assert_eq!(collector.get("/healthz").await.0, 200);
    assert_eq!(collector.get("/readyz").await.0, 503);
    let mut agent = Agent::new(1);
    let frame = agent.freeze(&snapshot("h", now_ms(), vec![sample(1, "a", 1, 1)]));
    let refused = push(&collector, std::slice::from_ref(&frame)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let mut query = collector.query().await;
    let refused = query
        .list_hosts(v1::ListHostsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    engine.restart();
    collector.wait_ready().await;
    push(&collector, &[frame]).await.unwrap();
    collector.stop().await;
}

#[tokio::test]
async fn what_is_in_memory_is_stored_before_the_end() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let frames: Vec<_> = (0..50)
        .map(|s| agent.freeze(&snapshot("h", time_ms + s * 1_000, vec![sample(1, "a", 1, 1)])))
        .collect();
    let mut stream = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    stream.send(&frames).await;
    wait_until("all have arrived", || async {
        collector.metric("procscope_collector_snapshots_total").await == 50
    })
    .await;
    let stopped = tokio::spawn(collector.stop());
    stream.durable(50).await.unwrap();
    assert_eq!(stream.durable(51).await.unwrap_err().code(), Code::Unavailable);
    drop(stream);
    stopped.await.unwrap();
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 50);
}

#[tokio::test]
async fn a_store_that_stays_away_pushes_back_and_gets_everything_later() {
    let mut engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms() - 3_600_000;
    // 128 KiB a snapshot: 100 MiB in all, of which 48 MiB may wait in memory.
    let frames: Vec<_> = (0..800)
        .map(|s| {
            let mut large = snapshot("h", time_ms + s * 100, vec![]);
            large.processes = (1..=8)
                .map(|id| v1::ProcessInfo {
                    process_id: vec![id; 16],
                    pid: u32::from(id),
                    cmdline: "x".repeat(16_000),
                    ..v1::ProcessInfo::default()
                })
                .collect();
            agent.freeze(&large)
        })
        .collect();
    let mut stream = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    stream.send(&frames[..1]).await;
    stream.durable(1).await.unwrap();
    engine.kill();
    stream.send(&frames[1..]).await;
    // Some wait in memory, which is bounded; the rest stays with the agent, which is told so.
    assert_eq!(
        stream.durable(800).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    let waiting = collector.metric("procscope_collector_waiting_bytes").await;
    assert!((44 << 20..=48 << 20).contains(&waiting), "{waiting}");
    engine.restart();
    collector.wait_ready().await;
    let mut stream = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    stream.send(&frames[1..]).await;
    stream.durable(800).await.unwrap();
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 800);
    assert_eq!(
        engine.number("SELECT uniqExact(seq) FROM host_samples").await,
        800
    );
    collector.stop().await;
}

#[tokio::test]
async fn a_collector_that_does_not_fit_the_tables_says_so_and_ends() {
    let engine = Engine::start();
    engine.store().migrate(0).await.unwrap();
    engine
        .execute("ALTER TABLE host_samples DROP COLUMN losses")
        .await;
    let collector = Collector::start_without_store(engine.config()).await;
    let line = collector.ended().await;
    assert!(line.contains("host_samples.losses"), "{line}");
}

#[tokio::test]
async fn who_asks_while_the_store_stands_still_hears_that_it_does_not_answer() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut query = collector.query().await;
    signal(engine.pid(), "-STOP");
    let answer = query.list_hosts(v1::ListHostsRequest::default()).await;
    signal(engine.pid(), "-CONT");
    let status = answer.unwrap_err();
    assert!(
        status.code() == Code::Unavailable && status.message().contains("store does not answer"),
        "{status}"
    );
    collector.stop().await;
}
