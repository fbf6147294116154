//! The door: who is let in, what is turned away, and that everything is stored once.

use procscope_proto::v1;
use tonic::Code;

use crate::support::{
    Agent, Collector, Engine, Push, SECOND_NS, TOKEN, now_ms, push, sample, snapshot, timestamp,
};

/// Pushes frames and expects the stream to be refused.
async fn refused(
    collector: &Collector,
    token: Option<&str>,
    frames: &[v1::PushSnapshotsRequest],
) -> tonic::Status {
    match Push::open(collector.channel().await, token).await {
        Err(status) => status,
        Ok(mut push) => {
            push.send(frames).await;
            push.durable(u64::MAX).await.unwrap_err()
        }
    }
}

#[tokio::test]
async fn nobody_is_let_in_without_the_token() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    for token in [
        None,
        Some(""),
        Some("wrong"),
        Some("token-of-the-test"),
        Some("token-of-the-tests2"),
    ] {
        assert_eq!(
            refused(&collector, token, &[]).await.code(),
            Code::Unauthenticated,
            "{token:?}"
        );
    }
    assert_eq!(
        collector
            .metric("procscope_collector_refused_total{reason=\"token\"}")
            .await,
        5
    );
    collector.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_words_and_stops_nobody_else() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let good = snapshot("good", now_ms(), vec![sample(1, "a", 1, 1)]);
    let mut agent = Agent::new(1);
    let frame = agent.freeze(&good);

    let mut damaged = frame.clone();
    damaged.snapshot[5] ^= 0xff;
    let garbage = agent.frame(1, b"\xff\xff\xff no snapshot".to_vec());
    let mut no_agent = frame.clone();
    no_agent.agent_id = vec![1; 3];
    let no_time = agent.frame(
        1,
        prost::Message::encode_to_vec(&v1::Snapshot {
            time: None,
            ..good.clone()
        }),
    );
    for (frame, field) in [
        (damaged, "snapshot_crc32c"),
        (garbage, "snapshot"),
        (no_agent, "agent_id"),
        (no_time, "time"),
    ] {
        let status = refused(&collector, Some(TOKEN), &[frame]).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(&format!("{field}: ")), "{status}");
    }

    let mut jumped = frame.clone();
    jumped.seq = 3;
    let status = refused(&collector, Some(TOKEN), &[frame.clone(), jumped]).await;
    assert!(
        status.code() == Code::InvalidArgument && status.message().starts_with("seq: "),
        "{status}"
    );
    let mut other = frame.clone();
    (other.seq, other.epoch) = (2, 77);
    let status = refused(&collector, Some(TOKEN), &[frame.clone(), other]).await;
    assert!(
        status.code() == Code::InvalidArgument && status.message().starts_with("epoch: "),
        "{status}"
    );

    let huge = agent.frame(1, vec![0; 17 << 20]);
    let status = refused(&collector, Some(TOKEN), &[huge]).await;
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    push(&collector, &[Agent::new(2).freeze(&good)]).await.unwrap();
    assert!(
        collector
            .metric("procscope_collector_refused_total{reason=\"invalid\"}")
            .await
            >= 6
    );
    assert_eq!(
        collector
            .metric("procscope_collector_refused_total{reason=\"too_long\"}")
            .await,
        1
    );
    collector.stop().await;
}

#[tokio::test]
async fn two_live_agents_with_one_id_are_refused_and_the_same_epoch_takes_over() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let (mut first, time_ms) = (Agent::new(1), now_ms());
    let mut second = Agent {
        epoch: 5,
        ..first.clone()
    };
    let one = first.freeze(&snapshot("h", time_ms, vec![]));
    let mut open = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    open.send(std::slice::from_ref(&one)).await;
    open.durable(1).await.unwrap();

    let other = second.freeze(&snapshot("h", time_ms, vec![]));
    assert_eq!(
        refused(&collector, Some(TOKEN), &[other]).await.code(),
        Code::AlreadyExists
    );

    let two = first.freeze(&snapshot("h", time_ms + 1_000, vec![]));
    push(&collector, &[one, two]).await.unwrap();
    assert_eq!(open.durable(99).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 2);
    collector.stop().await;
}

#[tokio::test]
async fn a_backlog_comes_beside_the_epoch_that_lives_and_may_have_gaps() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let (mut old, time_ms) = (Agent::new(1), now_ms());
    let mut live = Agent {
        epoch: 5,
        ..old.clone()
    };
    let backlog: Vec<_> = [0, 0, 0, 2, 0]
        .into_iter()
        .zip(0..)
        .map(|(lost, second)| {
            old.seq += lost;
            v1::PushSnapshotsRequest {
                backlog: true,
                ..old.freeze(&snapshot("h", time_ms + second * 1_000, vec![]))
            }
        })
        .collect();
    let newest = live.freeze(&snapshot("h", time_ms + 9_000, vec![]));
    let mut open = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    open.send(std::slice::from_ref(&newest)).await;
    open.durable(1).await.unwrap();

    push(&collector, &backlog[..2]).await.unwrap();
    push(&collector, &backlog).await.unwrap();
    let newer = live.freeze(&snapshot("h", time_ms + 10_000, vec![]));
    open.send(std::slice::from_ref(&newer)).await;
    open.durable(2).await.unwrap();
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 7);
    assert_eq!(
        engine
            .text("SELECT arraySort(groupArray(seq)) FROM host_samples WHERE epoch = 1001")
            .await,
        "[1,2,3,6,7]"
    );

    let gap = [live.freeze(&snapshot("h", time_ms, vec![])), newest];
    drop(open);
    assert_eq!(
        refused(&collector, Some(TOKEN), &gap).await.code(),
        Code::InvalidArgument
    );
    collector.stop().await;
}

#[tokio::test]
async fn a_replayed_snapshot_is_stored_once_on_a_new_stream_and_after_a_restart() {
    let engine = Engine::start();
    let mut collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let frames: Vec<_> = (0..20)
        .map(|second| {
            let mut snapshot = snapshot(
                "h",
                time_ms + second * 1_000,
                vec![sample(1, "a", 10, 1), sample(2, "b", 20, 1)],
            );
            snapshot.exits = vec![v1::ProcessExit {
                process_id: vec![second as u8 + 1; 16],
                pid: 1,
                end_time: Some(timestamp(time_ms)),
                ..v1::ProcessExit::default()
            }];
            agent.freeze(&snapshot)
        })
        .collect();
    push(&collector, &frames[..10]).await.unwrap();
    push(&collector, &frames[3..12]).await.unwrap();
    for _ in 0..2 {
        collector.stop().await;
        collector = Collector::start(&engine).await;
        push(&collector, &frames[5..]).await.unwrap();
    }
    push(&collector, &frames).await.unwrap();
    for (table, rows) in [
        ("process_samples", 40),
        ("process_exits", 20),
        ("host_samples", 20),
    ] {
        assert_eq!(
            engine.number(&format!("SELECT count() FROM {table}")).await,
            rows,
            "{table}"
        );
    }
    assert_eq!(engine.number("SELECT uniqExact(seq) FROM host_samples").await, 20);
    collector.stop().await;
}

#[tokio::test]
async fn after_a_crash_between_two_tables_only_the_missing_rows_are_added() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let frames: Vec<_> = (0..6)
        .map(|s| agent.freeze(&snapshot("h", time_ms + s * 1_000, vec![sample(1, "a", 10, 1)])))
        .collect();
    push(&collector, &frames).await.unwrap();
    collector.stop().await;
    // As a crash leaves it that came after process_samples was written and before host_samples was.
    engine
        .execute("ALTER TABLE host_samples DELETE WHERE seq >= 4 SETTINGS mutations_sync = 2")
        .await;
    engine
        .execute("ALTER TABLE process_samples DELETE WHERE seq >= 6 SETTINGS mutations_sync = 2")
        .await;
    let collector = Collector::start(&engine).await;
    push(&collector, &frames[1..]).await.unwrap();
    for table in ["process_samples", "host_samples"] {
        assert_eq!(
            engine.number(&format!("SELECT count() FROM {table}")).await,
            6,
            "{table}"
        );
        assert_eq!(
            engine
                .number(&format!("SELECT uniqExact(seq) FROM {table}"))
                .await,
            6,
            "{table}"
        );
    }
    collector.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_the_store_refuses_for_good_is_set_aside_and_stops_no_other() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    engine
        .execute("ALTER TABLE process_samples ADD CONSTRAINT no_poison CHECK name != 'poison'")
        .await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let frames: Vec<_> = ["a", "poison", "b"]
        .iter()
        .map(|name| agent.freeze(&snapshot("h", time_ms, vec![sample(1, name, 10, 1)])))
        .collect();
    push(&collector, &frames).await.unwrap();
    assert_eq!(
        engine
            .text("SELECT groupArray(name) FROM (SELECT name FROM process_samples ORDER BY name)")
            .await,
        "['a','b']"
    );
    assert_eq!(
        engine
            .text("SELECT (seq, length(snapshot) > 0, reason LIKE '%no_poison%') FROM set_aside")
            .await,
        "(2,1,1)"
    );
    assert_eq!(
        collector
            .metric("procscope_collector_snapshots_set_aside_total")
            .await,
        1
    );
    // It counts as stored: a replay brings it neither to its table nor aside a second time.
    push(&collector, &frames).await.unwrap();
    assert_eq!(engine.number("SELECT count() FROM set_aside").await, 1);
    assert_eq!(engine.number("SELECT count() FROM host_samples").await, 2);
    collector.stop().await;
}

#[tokio::test]
async fn snapshots_of_many_days_and_agents_arrive_whole() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let time_ms = now_ms() - 3 * 86_400_000;
    let mut streams = Vec::new();
    for id in 1..=12 {
        let mut agent = Agent::new(id);
        let frames: Vec<_> = (0..20)
            .map(|n| {
                // Across three days, and for some agents backwards, as after a step of the clock.
                let offset = if id % 3 == 0 { -n } else { n } * 7_200_000;
                agent.freeze(&snapshot(
                    &format!("h{id}"),
                    time_ms + offset,
                    vec![sample(id, "a", 10, 1)],
                ))
            })
            .collect();
        let mut push = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
        push.send(&frames).await;
        streams.push(tokio::spawn(async move { push.durable(20).await }));
    }
    for stream in streams {
        stream.await.unwrap().unwrap();
    }
    for table in ["process_samples", "host_samples"] {
        let distinct = format!("SELECT uniqExact(agent_id, epoch, seq) FROM {table}");
        assert_eq!(engine.number(&distinct).await, 240, "{table}");
        assert_eq!(
            engine.number(&format!("SELECT count() FROM {table}")).await,
            240,
            "{table}"
        );
    }
    collector.stop().await;
}

#[tokio::test]
async fn a_sample_is_visible_within_three_seconds() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut query = collector.query().await;
    let mut agent = Agent::new(1);
    let started = std::time::Instant::now();
    let push = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    push.send(&[agent.freeze(&snapshot("h", now_ms(), vec![sample(1, "a", 500, 1)]))])
        .await;
    loop {
        let top = query
            .list_top_processes(v1::ListTopProcessesRequest::default())
            .await
            .unwrap()
            .into_inner();
        if top.processes.len() == 1 {
            break;
        }
        assert!(
            started.elapsed().as_nanos() < u128::from(3 * SECOND_NS),
            "not visible after 3 s"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    collector.stop().await;
}
