//! What processes read, wrote, waited for and held, how each row was measured, and what measuring cost.

use procscope_proto::v1::{self, GroupBy};

use super::{near, top_of};
use crate::support::{
    Agent, Collector, Engine, SECOND_NS, now_ms, process_id, push, range, sample, snapshot, timestamp,
};

/// Two seconds of a host. `a` (1) and `a` (2) tell everything, the second one from /proc; `old` (3) tells nothing more
/// than an agent did before. `a` (1) ends in the second second.
async fn host(collector: &Collector, start_ms: i64) {
    let mut agent = Agent::new(1);
    let told = |id: u8, second: u64| v1::ProcessSample {
        user_time_ns_delta: Some(300_000_000),
        system_time_ns_delta: Some(100_000_000),
        runqueue_waits_delta: Some(5),
        rss_anon_bytes: Some(10 * second),
        rss_file_bytes: Some(20),
        rss_shmem_bytes: None,
        swap_bytes: Some(30),
        virtual_bytes: Some(40),
        open_file_descriptors: Some(u32::from(id) * 10 - u32::try_from(second).unwrap()),
        open_file_descriptor_limit: Some(1_024),
        read_bytes_delta: Some(1_000),
        written_bytes_delta: Some(500),
        read_operations_delta: Some(4),
        write_operations_delta: Some(3),
        disk_read_bytes_delta: Some(4_096),
        disk_written_bytes_delta: Some(0),
        state: "S".to_owned(),
        namespace_pid: Some(7),
        ..sample(id, "a", 400, 1)
    };
    let frames: Vec<_> = (1..=2)
        .map(|second| {
            let first = match second {
                1 => told(1, 1),
                _ => v1::ProcessSample {
                    exited: true,
                    rss_bytes: None,
                    rss_anon_bytes: None,
                    rss_file_bytes: None,
                    swap_bytes: None,
                    virtual_bytes: None,
                    open_file_descriptors: None,
                    open_file_descriptor_limit: None,
                    state: String::new(),
                    ..told(1, 2)
                },
            };
            let second_one = v1::ProcessSample {
                source: v1::Source::Proc.into(),
                ..told(2, second)
            };
            let time_ms = start_ms + i64::try_from(second).unwrap() * 1_000;
            let exit = v1::ProcessExit {
                process_id: vec![1; 16],
                pid: 1,
                name: "a".to_owned(),
                end_time: Some(timestamp(time_ms - 1)),
                user_time_ns: Some(600),
                system_time_ns: Some(200),
                runqueue_waits: Some(10),
                read_bytes: Some(2_000),
                written_bytes: Some(1_000),
                read_operations: Some(8),
                write_operations: Some(6),
                disk_read_bytes: Some(8_192),
                disk_written_bytes: None,
                namespace_pid: Some(7),
                source: if second == 1 {
                    v1::Source::Proc
                } else {
                    v1::Source::Unspecified
                }
                .into(),
                ..v1::ProcessExit::default()
            };
            let program = |name: &str, runs| v1::ProgramCost {
                name: name.to_owned(),
                runs,
                run_ns: runs * 200,
            };
            let mut cost = v1::AgentCost {
                cpu_time_ns_delta: 5_000_000 * second,
                rss_bytes: 100 / second,
                drain_ns: 1_000 * second,
                events: 8,
                ..v1::AgentCost::default()
            };
            // An agent measures what being attached costs when it starts, and tells the rest each time.
            if second == 1 {
                (cost.attach_ns, cost.kernel_ppm) = (Some(50), Some(100));
                cost.programs = vec![program("sched_switch", 1_000), program("rare", 0)];
            } else {
                (cost.kernel_ppm, cost.kernel_budget_ppm) = (Some(300), Some(1_000));
                cost.programs = vec![program("rss_stat", 9_000), program("sched_switch", 500)];
            }
            agent.freeze(&v1::Snapshot {
                exits: vec![exit],
                audit: Some(v1::HostAudit {
                    cpus: 2,
                    wall_ns: 2 * SECOND_NS,
                    ..v1::HostAudit::default()
                }),
                agent_cost: Some(cost),
                ..snapshot("h", time_ms, vec![first, second_one, sample(3, "old", 10, 1)])
            })
        })
        .collect();
    push(collector, &frames).await.unwrap();
}

#[tokio::test]
async fn a_process_and_a_group_tell_what_they_read_wrote_and_hold() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    host(&collector, start_ms).await;
    let mut query = collector.query().await;
    let mut top = async |group_by| {
        let request = top_of(start_ms, 2, group_by);
        query.list_top_processes(request).await.unwrap().into_inner()
    };
    let by_process = top(GroupBy::Process).await;
    assert_eq!(by_process.coverage.unwrap().sources, ["ebpf", "proc"]);
    let [ended, alive, old] = &by_process.processes[..] else {
        panic!("three processes")
    };
    near(alive.user_cpu_seconds.unwrap(), 0.6);
    near(alive.system_cpu_seconds.unwrap(), 0.2);
    let io = |p: &v1::TopProcess| {
        (
            (
                p.read_bytes,
                p.written_bytes,
                p.read_operations,
                p.write_operations,
            ),
            (p.disk_read_bytes, p.disk_written_bytes, p.runqueue_waits),
        )
    };
    assert_eq!(
        io(alive),
        (
            (Some(2_000), Some(1_000), Some(8), Some(6)),
            (Some(8_192), Some(0), Some(10))
        )
    );
    let held = |p: &v1::TopProcess| {
        (
            (p.rss_anon_bytes, p.rss_file_bytes, p.rss_shmem_bytes),
            (p.swap_bytes, p.virtual_bytes, p.peak_open_file_descriptors),
        )
    };
    assert_eq!(
        held(alive),
        ((Some(20), Some(20), None), (Some(30), Some(40), Some(19)))
    );
    assert_eq!(held(ended), ((None, None, None), (None, None, Some(9))));
    let now = |p: &v1::TopProcess| (p.open_file_descriptor_limit, p.state.clone(), p.namespace_pid);
    assert_eq!(now(alive), (Some(1_024), Some("S".to_owned()), Some(7)));
    assert_eq!(now(ended), (None, None, Some(7)));
    assert_eq!(
        [ended, alive, old].map(|p| p.source.as_str()),
        ["ebpf", "proc", "ebpf"]
    );
    assert_eq!(
        (io(old), held(old), now(old), old.user_cpu_seconds),
        (Default::default(), Default::default(), (None, None, None), None),
        "what nobody told is not known"
    );

    let by_command = top(GroupBy::Command).await;
    let [a, old] = &by_command.processes[..] else {
        panic!("two commands")
    };
    near(a.user_cpu_seconds.unwrap(), 1.2);
    assert_eq!(
        io(a),
        (
            (Some(4_000), Some(2_000), Some(16), Some(12)),
            (Some(16_384), Some(0), Some(20))
        )
    );
    // 9 and 19 were open at one time; now there is only the second one.
    assert_eq!(
        held(a),
        ((Some(20), Some(20), None), (Some(30), Some(40), Some(28)))
    );
    assert_eq!((a.source.as_str(), old.source.as_str()), ("mixed", "ebpf"));
    assert_eq!((io(old), held(old)), Default::default());
    assert_eq!(now(a), (None, None, None), "a group is no process");
    collector.stop().await;
}

#[tokio::test]
async fn a_history_divides_what_was_read_and_written_by_time() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    host(&collector, start_ms).await;
    let mut query = collector.query().await;
    let mut ask = async |id: u8, step_ms| {
        let request = v1::GetProcessHistoryRequest {
            process_id: process_id(id),
            range: range(start_ms, start_ms + 2_000),
            step_ms,
            ..Default::default()
        };
        let history = query.get_process_history(request).await.unwrap().into_inner();
        assert_eq!(history.coverage.unwrap().sources, ["ebpf", "proc"]);
        history.points
    };
    for point in ask(2, 500).await {
        near(point.avg_cpu_percent.unwrap(), 40.0);
        near(point.avg_user_percent.unwrap(), 30.0);
        near(point.avg_system_percent.unwrap(), 10.0);
        assert_eq!(
            (point.read_bytes, point.written_bytes, point.disk_read_bytes),
            (Some(500), Some(250), Some(2_048))
        );
        assert_eq!(
            (point.read_operations, point.disk_written_bytes),
            (Some(2), Some(0))
        );
    }
    let whole = ask(2, 2_000).await;
    assert_eq!(
        (
            whole[0].runqueue_waits,
            whole[0].write_operations,
            whole[0].peak_open_file_descriptors
        ),
        (Some(10), Some(6), Some(19))
    );
    let old = ask(3, 2_000).await;
    assert_eq!(
        (old[0].avg_user_percent, old[0].read_bytes, old[0].runqueue_waits),
        (None, None, None)
    );
    collector.stop().await;
}

#[tokio::test]
async fn an_exit_tells_its_life_and_how_it_was_measured() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    host(&collector, start_ms).await;
    let request = v1::ListProcessExitsRequest {
        range: range(start_ms, start_ms + 2_000),
        ..Default::default()
    };
    let exits = collector.query().await.list_process_exits(request).await;
    let exits = exits.unwrap().into_inner();
    assert_eq!(exits.coverage.unwrap().sources, ["ebpf", "proc"]);
    let [newest, first] = &exits.exits[..] else {
        panic!("two exits")
    };
    assert_eq!(
        (newest.source.as_str(), first.source.as_str()),
        ("ebpf", "proc"),
        "newest first"
    );
    assert_eq!(
        (first.user_time_ns, first.system_time_ns, first.runqueue_waits),
        (Some(600), Some(200), Some(10))
    );
    assert_eq!(
        (first.read_bytes, first.written_bytes, first.namespace_pid),
        (Some(2_000), Some(1_000), Some(7))
    );
    assert_eq!(
        (first.read_operations, first.write_operations),
        (Some(8), Some(6))
    );
    assert_eq!(
        (first.disk_read_bytes, first.disk_written_bytes),
        (Some(8_192), None)
    );
    collector.stop().await;
}

#[tokio::test]
async fn the_audit_tells_what_measuring_cost() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    host(&collector, start_ms).await;
    let silent = Agent::new(2).freeze(&snapshot("silent", start_ms + 1_000, vec![]));
    push(&collector, &[silent]).await.unwrap();
    let request = v1::GetAuditRequest {
        hosts: vec![],
        range: range(start_ms, start_ms + 2_000),
    };
    let audit = collector
        .query()
        .await
        .get_audit(request)
        .await
        .unwrap()
        .into_inner();
    let [row, silent] = &audit.rows[..] else {
        panic!("two hosts")
    };
    near(row.kernel_ppm.unwrap(), 200.0);
    assert_eq!(
        (row.kernel_budget_ppm, row.attach_ns),
        (Some(1_000), Some(50)),
        "as they were told last"
    );
    let programs: Vec<_> = row
        .programs
        .iter()
        .map(|p| (p.name.as_str(), p.runs, p.run_ns))
        .collect();
    assert_eq!(
        programs,
        [
            ("rss_stat", 9_000, 1_800_000),
            ("sched_switch", 1_500, 300_000),
            ("rare", 0, 0)
        ],
        "the costliest first, those that never ran too"
    );
    assert_eq!(row.agent_cpu_time_ns, Some(15_000_000));
    near(row.agent_cpu_percent.unwrap(), 0.75);
    near(row.agent_avg_drain_ns.unwrap(), 1_500.0);
    assert_eq!(
        (row.agent_max_drain_ns, row.agent_peak_rss_bytes, row.agent_events),
        (Some(2_000), Some(100), Some(16))
    );
    assert_eq!(
        silent,
        &v1::AuditRow {
            host: "silent".to_owned(),
            ..v1::AuditRow::default()
        },
        "what nobody told is not known"
    );
    collector.stop().await;
}
