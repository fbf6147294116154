//! Agents go from one collector to another, in the middle of anything: what is stored is stored once.

use std::time::Duration;

use procscope_collector::{
    ingest::decode,
    store::{
        Store, StoredIn, Table,
        insert::{Frozen, freeze},
    },
};
use procscope_proto::v1;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    Agent, Collector, Engine, PASSWORD, Push, TOKEN, now_ms, push, sample, snapshot, wait_until,
};

/// Rows of an insert that runs.
const ROWS: usize = 200_000;

fn frames(agent: &mut Agent, count: i64) -> Vec<v1::PushSnapshotsRequest> {
    let time_ms = now_ms() - 60_000;
    (0..count)
        .map(|s| agent.freeze(&snapshot("h", time_ms + s * 100, vec![sample(1, "a", 1, 1)])))
        .collect()
}

fn frozen(frame: v1::PushSnapshotsRequest) -> Frozen {
    frozen_all(vec![frame])
}

fn frozen_all(frames: Vec<v1::PushSnapshotsRequest>) -> Frozen {
    let snapshots: Vec<_> = frames
        .into_iter()
        .map(|frame| decode::snapshot(frame, now_ms()).unwrap())
        .collect();
    freeze(
        Table::HostSamples,
        snapshots.iter().map(|s| (s, StoredIn::default())),
    )
    .unwrap()
}

#[tokio::test]
async fn what_another_collector_has_stored_proves_nothing_of_the_rest_of_a_batch() {
    let engine = Engine::start();
    let (first, second) = (engine.store(), engine.store());
    first.migrate(0).await.unwrap();
    let both = [frames(&mut Agent::new(1), 2), frames(&mut Agent::new(2), 2)].concat();
    let batch = frozen_all(both.clone());
    second.insert(&frozen(both[0].clone())).await.unwrap();
    assert!(!first.holds(&batch).await.unwrap());
    second.insert(&frozen_all(both[1..].to_vec())).await.unwrap();
    assert!(first.holds(&batch).await.unwrap());
}

#[tokio::test]
async fn a_collector_that_has_lost_an_epoch_stores_nothing_of_it() {
    let engine = Engine::start();
    let (first, second): (Store, Store) = (engine.store(), engine.store());
    first.migrate(0).await.unwrap();
    let mut agent = Agent::new(1);
    let frames = frames(&mut agent, 3);
    let (epoch, _) = decode::identity(&frames[0]).unwrap();
    first.take(&[epoch]).await.unwrap();
    assert_eq!(first.held(&[epoch]).await.unwrap(), [epoch]);
    first.insert(&frozen(frames[0].clone())).await.unwrap();
    assert!(first.holds(&frozen(frames[0].clone())).await.unwrap());

    second.take(&[epoch]).await.unwrap();
    assert!(first.held(&[epoch]).await.unwrap().is_empty());
    assert_eq!(second.held(&[epoch]).await.unwrap(), [epoch]);
    let refused = first.insert(&frozen(frames[1].clone())).await.unwrap_err();
    assert!(refused.is_fenced(), "{refused}");
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 1);
    assert!(!second.holds(&frozen(frames[1].clone())).await.unwrap());
    second.insert(&frozen(frames[1].clone())).await.unwrap();

    // And back: the newest lease holds.
    first.take(&[epoch]).await.unwrap();
    assert!(
        second
            .insert(&frozen(frames[2].clone()))
            .await
            .unwrap_err()
            .is_fenced()
    );
    first.insert(&frozen(frames[2].clone())).await.unwrap();
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 3);
}

#[tokio::test]
async fn who_takes_an_epoch_waits_for_inserts_that_began_before() {
    let engine = Engine::start();
    let store = engine.store();
    store.migrate(0).await.unwrap();
    // An insert of another collector, the end of which is still on its way.
    let address = engine.url().replace("http://", "");
    let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /?database=procscope&query=INSERT+INTO+host_samples+(seq,time)+FORMAT+TSV HTTP/1.1\r\nHost: localhost\r\n\
         X-ClickHouse-User: procscope\r\nX-ClickHouse-Key: {PASSWORD}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    // The engine begins once it has a MiB of the body.
    let rows = format!("7\t{}\n", now_ms() / 1_000).repeat(ROWS);
    let chunk = format!("{:x}\r\n{rows}\r\n", rows.len());
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(chunk.as_bytes()).await.unwrap();
    wait_until("the insert runs", || async {
        engine
            .number("SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO host_samples%'")
            .await
            == 1
    })
    .await;
    let mut settled = tokio::spawn(async move { store.settle().await });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut settled).await;
    assert!(early.is_err(), "it did not wait");
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    settled.await.unwrap().unwrap();
    assert_eq!(
        engine.number("SELECT count() FROM host_samples").await,
        ROWS as u64
    );
}

#[tokio::test]
async fn an_agent_that_goes_to_and_fro_is_stored_once_and_pays_one_lease_a_change() {
    let engine = Engine::start();
    let (first, second) = (Collector::start(&engine).await, Collector::start(&engine).await);
    let mut agent = Agent::new(1);
    let frames = frames(&mut agent, 40);
    for (collector, until) in [
        (&first, 10),
        (&first, 15),
        (&second, 20),
        (&first, 30),
        (&second, 40),
    ] {
        push(collector, &frames[..until]).await.unwrap();
    }
    for (table, rows) in [("host_samples", 40), ("process_samples", 40), ("leases", 4)] {
        let count = engine.number(&format!("SELECT count() FROM {table}")).await;
        assert_eq!(count, rows, "{table}");
    }
    assert_eq!(engine.number("SELECT uniqExact(seq) FROM host_samples").await, 40);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_another_collector_takes_its_epoch() {
    let engine = Engine::start();
    let (first, second) = (Collector::start(&engine).await, Collector::start(&engine).await);
    let (mut moves, mut stays) = (Agent::new(1), Agent::new(2));
    let moving = frames(&mut moves, 20);
    let staying = frames(&mut stays, 20);
    let mut stream = Push::open(first.channel().await, Some(TOKEN)).await.unwrap();
    let mut other = Push::open(first.channel().await, Some(TOKEN)).await.unwrap();
    stream.send(&moving[..5]).await;
    other.send(&staying[..5]).await;
    stream.durable(5).await.unwrap();
    other.durable(5).await.unwrap();
    push(&second, &moving[..10]).await.unwrap();
    // The first collector hears of it from the store, goes on with the other agent, and lets this one go.
    stream.send(&moving[5..20]).await;
    other.send(&staying[5..]).await;
    assert!(stream.durable(20).await.is_err());
    other.durable(20).await.unwrap();
    assert!(
        first
            .metric("procscope_collector_snapshots_handed_over_total")
            .await
            > 0
    );
    assert_eq!(first.metric("procscope_collector_snapshots_waiting").await, 0);
    push(&second, &moving).await.unwrap();
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 40);
    assert_eq!(
        engine
            .number("SELECT uniqExact(epoch, seq) FROM host_samples")
            .await,
        40
    );
    first.stop().await;
    second.stop().await;
}
