//! Who a process is: the same boot, start and exec in every answer, as the agent told them.

use procscope_proto::v1::{self, GroupBy};

use super::{near, top_of};
use crate::support::{
    Agent, Collector, Engine, MIB, now_ms, process_id, push, range, sample, snapshot, timestamp,
};

const BOOT_ID: &str = "09090909-0909-0909-0909-090909090909";

/// A process with all of its identity, after so many execs.
fn known(generation: u32, ended_ms: u64, waits: Vec<u64>) -> v1::ProcessSample {
    v1::ProcessSample {
        exec_generation: generation,
        start_boottime_ns: 5_000_000_001,
        start_time: Some(timestamp(7_000)),
        parent_start_boottime_ns: 4_000_000_001,
        cgroup_id: 77,
        lifetime_peak_rss_bytes: Some(u64::from(generation) * MIB),
        ended_threads_cpu_time_ns_delta: Some(ended_ms * 1_000_000),
        runqueue_wait_counts: waits,
        ..sample(1, "a", 500, 1)
    }
}

#[tokio::test]
async fn a_process_is_the_same_one_in_every_answer() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    let mut agent = Agent::new(1);
    // Counted from the second interval on, and a neighbour of the same name that is known by little.
    let first = snapshot(
        "h",
        start_ms + 1_000,
        vec![known(3, 20, Vec::new()), sample(2, "a", 100, 1)],
    );
    let exit = v1::ProcessExit {
        process_id: vec![1; 16],
        exec_generation: 4,
        pid: 1,
        parent_pid: 1,
        name: "a".to_owned(),
        start_boottime_ns: 5_000_000_001,
        parent_start_boottime_ns: 4_000_000_001,
        start_time: Some(timestamp(7_000)),
        end_time: Some(timestamp(start_ms + 1_900)),
        ..v1::ProcessExit::default()
    };
    let second = v1::Snapshot {
        exits: vec![exit],
        ..snapshot(
            "h",
            start_ms + 2_000,
            vec![known(4, 30, vec![1, 0, 3]), sample(2, "a", 100, 1)],
        )
    };
    push(&collector, &[agent.freeze(&first), agent.freeze(&second)])
        .await
        .unwrap();
    let mut query = collector.query().await;

    let top = query
        .list_top_processes(top_of(start_ms, 2, GroupBy::Process))
        .await
        .unwrap()
        .into_inner();
    let [process, neighbour] = &top.processes[..] else {
        panic!("two rows: {top:?}")
    };
    assert_eq!(process.boot_id.as_deref(), Some(BOOT_ID));
    assert_eq!(
        (
            process.start_boottime_ns,
            process.exec_generation,
            process.parent_start_boottime_ns
        ),
        (Some(5_000_000_001), Some(4), Some(4_000_000_001))
    );
    assert_eq!(
        (process.cgroup_id, process.lifetime_peak_rss_bytes),
        (Some(77), Some(4 * MIB))
    );
    near(process.ended_threads_cpu_seconds.unwrap(), 0.05);
    assert_eq!(process.runqueue_wait_counts, [1, 0, 3]);
    assert_eq!(neighbour.boot_id.as_deref(), Some(BOOT_ID));
    assert_eq!(
        (
            neighbour.parent_start_boottime_ns,
            neighbour.cgroup_id,
            neighbour.ended_threads_cpu_seconds
        ),
        (None, None, None)
    );
    assert!(neighbour.runqueue_wait_counts.is_empty());

    let groups = query
        .list_top_processes(top_of(start_ms, 2, GroupBy::Command))
        .await
        .unwrap()
        .into_inner();
    let group = &groups.processes[0];
    assert_eq!((group.boot_id.as_deref(), group.exec_generation), (None, None));
    near(group.ended_threads_cpu_seconds.unwrap(), 0.05);
    assert_eq!(group.runqueue_wait_counts, [1, 0, 3]);

    let mut history = async |process_id: String, host: &str, name: &str| {
        let request = v1::GetProcessHistoryRequest {
            process_id,
            host: host.to_owned(),
            name: name.to_owned(),
            range: range(start_ms, start_ms + 3_000),
            step_ms: 1_000,
        };
        query.get_process_history(request).await.unwrap().into_inner()
    };
    let one = history(process_id(1), "", "").await;
    assert_eq!(
        one.process,
        Some(v1::ProcessIdentity {
            process_id: process_id(1),
            boot_id: Some(BOOT_ID.to_owned()),
            pid: 1,
            start_boottime_ns: 5_000_000_001,
            start_time: Some(timestamp(7_000)),
            parent_pid: 1,
            parent_start_boottime_ns: Some(4_000_000_001),
            host: "h".to_owned(),
            name: "a".to_owned(),
        })
    );
    let points: Vec<_> = one
        .points
        .iter()
        .map(|point| {
            let counts = point.runqueue_wait_counts.clone();
            (
                point.exec_generation,
                point.lifetime_peak_rss_bytes,
                point.cgroup_id,
                counts,
            )
        })
        .collect();
    assert_eq!(
        points,
        [
            (Some(3), Some(3 * MIB), Some(77), vec![]),
            (Some(4), Some(4 * MIB), Some(77), vec![1, 0, 3]),
            (None, None, None, vec![]),
        ]
    );
    near(one.points[0].ended_threads_cpu_seconds.unwrap(), 0.02);

    let all = history(String::new(), "h", "a").await;
    assert_eq!(all.process, None);
    let last = &all.points[1];
    assert_eq!(
        (last.exec_generation, last.cgroup_id, last.cpu_time_ns),
        (None, None, None),
        "of several processes"
    );
    assert_eq!(last.runqueue_wait_counts, [1, 0, 3]);

    let exits = query
        .list_process_exits(v1::ListProcessExitsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .exits;
    let [exit] = &exits[..] else {
        panic!("one exit: {exits:?}")
    };
    assert_eq!(exit.boot_id.as_deref(), Some(BOOT_ID));
    assert_eq!(
        (
            exit.start_boottime_ns,
            exit.exec_generation,
            exit.parent_start_boottime_ns
        ),
        (5_000_000_001, 4, Some(4_000_000_001))
    );
    collector.stop().await;
}
