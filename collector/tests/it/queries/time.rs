//! History and watch.

use procscope_proto::v1;
use tonic::Code;

use super::{fleet, near};
use crate::support::{
    Agent, Collector, Engine, PATIENCE, Push, SECOND_NS, TOKEN, now_ms, process_id, push, range, sample,
    snapshot,
};

#[tokio::test]
async fn a_history_adds_up_and_shows_its_gaps() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let mut query = collector.query().await;
    let mut ask = async |process_id: &str, host: &str, name: &str, step_ms| {
        let request = v1::GetProcessHistoryRequest {
            process_id: process_id.to_owned(),
            host: host.to_owned(),
            name: name.to_owned(),
            range: range(start_ms, start_ms + 12_000),
            step_ms,
        };
        query
            .get_process_history(request)
            .await
            .map(tonic::Response::into_inner)
    };

    let burst = ask(&process_id(4), "", "", 2_000).await.unwrap();
    let seconds: Vec<_> = burst.points.iter().map(|point| point.cpu_seconds).collect();
    assert_eq!(seconds, [Some(2.0), Some(2.0), Some(1.0), None, None, None]);
    assert!(
        burst.points[3].gap && burst.points[3].avg_num_procs.is_none(),
        "it has ended"
    );
    near(burst.points[0].avg_cpu_percent.unwrap(), 100.0);
    near(burst.points[2].avg_cpu_percent.unwrap(), 50.0);
    assert_eq!(burst.points[0].cpu_time_ns, Some(60 * SECOND_NS));

    let nginx = ask("", "db2", "nginx", 1_000).await.unwrap();
    let gaps: Vec<_> = nginx.points.iter().map(|point| point.gap).collect();
    assert_eq!(
        gaps,
        [3, 4, 10, 11].iter().fold([false; 12], |mut gaps, at| {
            gaps[*at] = true;
            gaps
        })
    );
    near(nginx.coverage.unwrap().share, 8.0 / 12.0);
    near(nginx.points[0].avg_memory_mb.unwrap(), 40.0);
    near(nginx.points[0].peak_memory_mb.unwrap(), 80.0);

    // Steps that fit no interval share it by time, and lose nothing.
    let odd = ask("", "db1", "nginx", 1_700).await.unwrap();
    assert_eq!(odd.points.len(), 8);
    near(odd.points.iter().filter_map(|point| point.cpu_seconds).sum(), 3.0);
    for point in &odd.points[..5] {
        near(point.avg_cpu_percent.unwrap(), 30.0);
        near(point.avg_num_procs.unwrap(), 2.0);
    }
    let pause = ask("", "db1", "burst", 6_000).await.unwrap();
    assert_eq!(
        (pause.points[1].cpu_seconds, pause.points[1].gap),
        (Some(0.0), false),
        "the host was watched, and there was none"
    );

    for (id, host, name, said) in [
        (process_id(99), "", "", "is known"),
        (String::new(), "ghost", "nginx", "no host ghost is known"),
        (
            String::new(),
            "db1",
            "nobody",
            "no process named nobody was seen on db1 in that range",
        ),
    ] {
        let status = ask(&id, host, name, 0).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().contains(said), "{status}");
    }
    let chosen = ask("", "db1", "nginx", 0).await.unwrap();
    assert_eq!((chosen.step_ms, chosen.points.len()), (1_000, 12));
    collector.stop().await;
}

#[tokio::test]
async fn one_stall_makes_no_step_longer() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    let mut agent = Agent::new(1);
    let mut frames: Vec<_> = (1..=20)
        .map(|second| {
            agent.freeze(&snapshot(
                "h",
                start_ms + second * 1_000,
                vec![sample(1, "a", 500, 1)],
            ))
        })
        .collect();
    frames.push(agent.freeze(&v1::Snapshot {
        interval_ns: 30 * SECOND_NS,
        ..snapshot("h", start_ms + 50_000, vec![sample(1, "a", 15_000, 1)])
    }));
    push(&collector, &frames).await.unwrap();
    let request = v1::GetProcessHistoryRequest {
        host: "h".to_owned(),
        name: "a".to_owned(),
        range: range(start_ms, start_ms + 50_000),
        ..Default::default()
    };
    let history = collector
        .query()
        .await
        .get_process_history(request)
        .await
        .unwrap();
    let history = history.into_inner();
    assert_eq!((history.step_ms, history.points.len()), (1_000, 50));
    for point in history.points {
        near(point.avg_cpu_percent.unwrap(), 50.0);
    }
    collector.stop().await;
}

#[tokio::test]
async fn the_last_intervals_up_to_an_instant_are_those_that_were_complete_then() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    // On no second, as with any agent.
    let start_ms = now_ms() - 600_000 + 337;
    let mut stream = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    let mut frozen = Vec::new();
    for second in 0..20 {
        let time_ms = start_ms + second * 1_000;
        frozen.push(agent.freeze(&snapshot(
            "h",
            time_ms,
            vec![sample(1, "a", 500 + second as u64 * 10, 1)],
        )));
    }
    stream.send(&frozen).await;
    stream.durable(20).await.unwrap();
    let mut query = collector.query().await;
    let mut ask = async |end_ms: i64, last_intervals| {
        let request = v1::ListTopProcessesRequest {
            range: Some(v1::TimeRange {
                start: None,
                ..range(0, end_ms).unwrap()
            }),
            last_intervals,
            ..Default::default()
        };
        query.list_top_processes(request).await.unwrap().into_inner()
    };
    let asked_ms = start_ms + 10_400;
    let answer = ask(asked_ms, 3).await;
    assert_eq!(answer.range, range(start_ms + 7_000, start_ms + 10_000));
    near(answer.coverage.unwrap().share, 1.0);
    near(answer.processes[0].cpu_seconds, 0.58 + 0.59 + 0.6);
    // Silence is not jumped over.
    let answer = ask(start_ms + 120_000, 3).await;
    assert_eq!(answer.range, range(start_ms + 117_000, start_ms + 120_000));
    near(answer.coverage.unwrap().share, 0.0);
    // Without a number it is an hour, as before.
    assert_eq!(
        ask(asked_ms, 0).await.range,
        range(asked_ms - 3_600_000, asked_ms)
    );
    collector.stop().await;
}

#[tokio::test]
async fn a_watch_answers_again_with_each_interval() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut agent = Agent::new(1);
    let time_ms = now_ms();
    let mut stream = Push::open(collector.channel().await, Some(TOKEN)).await.unwrap();
    let first = agent.freeze(&snapshot("h", time_ms, vec![sample(1, "a", 500, 1)]));
    stream.send(&[first]).await;
    stream.durable(1).await.unwrap();
    let mut query = collector.query().await;
    let request = v1::WatchTopProcessesRequest {
        query: Some(v1::ListTopProcessesRequest {
            last_intervals: 1,
            ..Default::default()
        }),
    };
    let mut answers = query.watch_top_processes(request).await.unwrap().into_inner();
    for second in 0..3 {
        let answer = tokio::time::timeout(PATIENCE, answers.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let top = answer.top.unwrap();
        assert_eq!(
            top.range,
            range(time_ms + (second - 1) * 1_000, time_ms + second * 1_000)
        );
        near(top.processes[0].avg_cpu_percent, 50.0 + second as f64);
        let cpu_ms = 510 + second as u64 * 10;
        let next = agent.freeze(&snapshot(
            "h",
            time_ms + (second + 1) * 1_000,
            vec![sample(1, "a", cpu_ms, 1)],
        ));
        stream.send(&[next]).await;
    }
    collector.stop().await;
    let end = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(status) => break Some(status.code()),
        }
    };
    assert!(
        matches!(end, None | Some(Code::Unavailable | Code::Unknown)),
        "{end:?}"
    );
}
