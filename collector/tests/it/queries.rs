//! Known snapshots in, exact figures out, for each question.

use procscope_proto::v1::{self, GroupBy, Metric};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    Agent, Collector, Engine, MIB, PATIENCE, Push, SECOND_NS, TOKEN, now_ms, process_id, push, range, sample,
    snapshot, timestamp,
};

/// Ten seconds of two hosts; db2 is silent in the seconds 4 and 5.
///
/// db1: two nginx (100 and 200 ms/s, 10 and 20 MiB), postgres (50 ms/s, 100 MiB), a kernel thread (10 ms/s), and
/// burst, which uses a whole CPU for five seconds and ends in the fifth. db2: one nginx (400 ms/s, 40 MiB).
async fn fleet(collector: &Collector, start_ms: i64) {
    let (mut db1, mut db2) = (Agent::new(1), Agent::new(2));
    let (mut frames1, mut frames2) = (Vec::new(), Vec::new());
    for second in 1..=10 {
        let time_ms = start_ms + second * 1_000;
        let mut samples = vec![
            sample(1, "nginx", 100, 10),
            sample(2, "nginx", 200, 20),
            sample(3, "postgres", 50, 100),
            v1::ProcessSample {
                kernel_thread: true,
                rss_bytes: None,
                peak_rss_bytes: None,
                ..sample(5, "kworker", 10, 0)
            },
        ];
        if second < 5 {
            samples.push(sample(4, "burst", 1_000, 8));
        }
        if second == 5 {
            let last = sample(4, "burst", 1_000, 8);
            samples.push(v1::ProcessSample {
                exited: true,
                rss_bytes: None,
                threads: 0,
                ..last
            });
        }
        let infos = vec![v1::ProcessInfo {
            process_id: vec![1; 16],
            exe: "/usr/sbin/nginx".to_owned(),
            cmdline: "nginx -g daemon off;".to_owned(),
            name: "nginx".to_owned(),
            ..v1::ProcessInfo::default()
        }];
        let audit = v1::HostAudit {
            cpus: 2,
            wall_ns: 2 * SECOND_NS,
            process_ns: 350_000_000,
            kthread_ns: 10_000_000,
            idle_ns: 1_600_000_000,
            iowait_ns: Some(40_000_000),
            interrupts_in_tasks: true,
            residual_ns: if second % 2 == 0 { 3 } else { -5 },
            torn_reads: 1,
            ..v1::HostAudit::default()
        };
        let host_info = v1::HostInfo {
            agent_version: "0.1.0".to_owned(),
            kernel_release: "6.18".to_owned(),
            cpus: 2,
            memory_total_bytes: 8 << 30,
            processes: 5,
            ..v1::HostInfo::default()
        };
        frames1.push(db1.freeze(&v1::Snapshot {
            processes: infos,
            audit: Some(audit),
            host_info: Some(host_info),
            losses: vec![v1::Loss {
                reason: "ring_full".to_owned(),
                count: 2,
            }],
            agent_cost: Some(v1::AgentCost {
                cpu_time_ns_delta: 5_000_000,
                rss_bytes: MIB,
                ..Default::default()
            }),
            ..snapshot("db1", time_ms, samples)
        }));
        if second != 4 && second != 5 {
            frames2.push(db2.freeze(&v1::Snapshot {
                source: v1::Source::Proc.into(),
                ..snapshot("db2", time_ms, vec![sample(11, "nginx", 400, 40)])
            }));
        }
    }
    push(collector, &frames1).await.unwrap();
    push(collector, &frames2).await.unwrap();
}

fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-6, "got {got}, expected {expected}");
}

fn top_of(start_ms: i64, seconds: i64, group_by: GroupBy) -> v1::ListTopProcessesRequest {
    v1::ListTopProcessesRequest {
        range: range(start_ms, start_ms + seconds * 1_000),
        group_by: group_by.into(),
        ..v1::ListTopProcessesRequest::default()
    }
}

fn names(top: &v1::ListTopProcessesResponse) -> Vec<&str> {
    top.processes.iter().map(|row| &*row.name).collect()
}

#[tokio::test]
async fn commands_are_summed_over_hosts_and_divided_by_observed_time() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let mut query = collector.query().await;
    let top = query
        .list_top_processes(top_of(start_ms, 10, GroupBy::Command))
        .await
        .unwrap()
        .into_inner();

    assert_eq!(names(&top), ["nginx", "burst", "postgres", "kworker"]);
    let nginx = &top.processes[0];
    assert_eq!(nginx.hosts, ["db1", "db2"]);
    near(nginx.avg_cpu_percent, 30.0 + 40.0);
    near(nginx.cpu_seconds, 3.0 + 3.2);
    near(nginx.avg_memory_mb.unwrap(), 30.0 + 40.0);
    near(nginx.peak_memory_mb.unwrap(), 60.0 + 80.0);
    near(nginx.avg_num_procs, 3.0);
    assert_eq!((nginx.threads, nginx.rss_bytes), (6, Some(70 * MIB)));
    assert_eq!(nginx.last_time, Some(timestamp(start_ms + 10_000)));
    assert_eq!(
        (nginx.process_id.as_ref(), nginx.pid),
        (None, None),
        "a group is no process"
    );
    let burst = &top.processes[1];
    near(burst.avg_cpu_percent, 50.0);
    near(burst.avg_memory_mb.unwrap(), 4.0 * 8.0 / 10.0);
    near(burst.avg_num_procs, 0.4);
    assert_eq!((burst.threads, burst.rss_bytes), (0, Some(0)), "it has ended");
    let kworker = &top.processes[3];
    assert_eq!(
        (kworker.avg_memory_mb, kworker.peak_memory_mb),
        (None, None),
        "no address space"
    );

    let coverage = top.coverage.unwrap();
    near(coverage.share, 18.0 / 20.0);
    near(coverage.total_host_seconds, 20.0);
    assert_eq!(coverage.sources, ["ebpf", "proc"]);
    assert_eq!(
        coverage.losses,
        [v1::CoverageLoss {
            reason: "ring_full".to_owned(),
            count: 20
        }]
    );
    assert_eq!(top.range, range(start_ms, start_ms + 10_000));
    collector.stop().await;
}

#[tokio::test]
async fn processes_carry_what_they_were_started_as() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let mut query = collector.query().await;
    let top = query
        .list_top_processes(top_of(start_ms, 10, GroupBy::Process))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        names(&top),
        ["burst", "nginx", "nginx", "nginx", "postgres", "kworker"]
    );
    let [burst, on_db2, .., second, _, _] = &top.processes[..] else {
        panic!("six rows")
    };
    assert_eq!(burst.exited, Some(true));
    near(burst.avg_cpu_percent, 50.0);
    near(on_db2.avg_cpu_percent, 40.0);
    assert_eq!((&*on_db2.hosts, on_db2.pid), (&["db2".to_owned()][..], Some(11)));
    assert_eq!(second.process_id.as_deref(), Some(&*process_id(1)));
    assert_eq!(second.cmdline.as_deref(), Some("nginx -g daemon off;"));
    assert_eq!(second.exe.as_deref(), Some("/usr/sbin/nginx"));
    near(second.peak_memory_mb.unwrap(), 20.0);
    near(second.avg_num_procs, 1.0);
    assert_eq!(second.cpu_time_ns, Some(60 * SECOND_NS));
    assert_eq!(on_db2.cmdline, None, "nobody described it");
    collector.stop().await;
}

#[tokio::test]
async fn every_metric_ranks_by_itself_and_every_group_by_its_key() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    let mut agent = Agent::new(1);
    let mut samples = Vec::new();
    for (id, uid, container) in [(1, 10, "a"), (2, 10, "b"), (3, 20, "b")] {
        let mut row = sample(id, &format!("p{id}"), u64::from(id) * 10, 10 - u64::from(id));
        row.uid = uid;
        row.container_id = container.to_owned();
        row.runqueue_ns_delta = Some(if id == 2 { 9 } else { 1 });
        row.voluntary_switches_delta = Some(if id == 1 { 9 } else { 1 });
        row.involuntary_switches_delta = None;
        row.major_faults_delta = Some(if id == 2 { 9 } else { 1 });
        samples.push(row);
    }
    push(
        &collector,
        &[agent.freeze(&snapshot("h", start_ms + 1_000, samples))],
    )
    .await
    .unwrap();
    let mut query = collector.query().await;
    for group_by in [GroupBy::Process, GroupBy::Command] {
        for (metric, first) in [
            (Metric::Unspecified, "p3"),
            (Metric::Cpu, "p3"),
            (Metric::Memory, "p1"),
            (Metric::PeakMemory, "p1"),
            (Metric::Runqueue, "p2"),
            (Metric::Switches, "p1"),
            (Metric::Faults, "p2"),
        ] {
            let request = v1::ListTopProcessesRequest {
                metric: metric.into(),
                limit: 1,
                ..top_of(start_ms, 1, group_by)
            };
            let top = query.list_top_processes(request).await.unwrap().into_inner();
            assert_eq!(names(&top), [first], "{metric:?} {group_by:?}");
        }
    }
    for (group_by, expected) in [
        (GroupBy::Container, vec![("b", 5.0), ("a", 1.0)]),
        (GroupBy::User, vec![("10", 3.0), ("20", 3.0)]),
        (GroupBy::Host, vec![("h", 6.0)]),
    ] {
        let top = query
            .list_top_processes(top_of(start_ms, 1, group_by))
            .await
            .unwrap()
            .into_inner();
        let got: Vec<_> = top
            .processes
            .iter()
            .map(|row| (&*row.name, row.avg_cpu_percent.round()))
            .collect();
        assert_eq!(got, expected, "{group_by:?}");
    }
    collector.stop().await;
}

#[tokio::test]
async fn adjacent_ranges_add_up_and_filters_hold() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let mut query = collector.query().await;
    let mut seconds = 0.0;
    for part in 0..5 {
        let top = query
            .list_top_processes(top_of(start_ms + part * 2_000, 2, GroupBy::Host))
            .await
            .unwrap();
        seconds += top
            .into_inner()
            .processes
            .iter()
            .map(|row| row.cpu_seconds)
            .sum::<f64>();
    }
    near(seconds, 3.0 + 0.5 + 0.1 + 5.0 + 3.2);

    let request = v1::ListTopProcessesRequest {
        hosts: vec!["db1".to_owned()],
        name_contains: "NGIN".to_owned(),
        ..top_of(start_ms, 10, GroupBy::Command)
    };
    let top = query.list_top_processes(request).await.unwrap().into_inner();
    assert_eq!(names(&top), ["nginx"]);
    near(top.processes[0].avg_cpu_percent, 30.0);
    near(top.coverage.unwrap().share, 1.0);

    let request = v1::ListTopProcessesRequest {
        hosts: vec!["db1".to_owned(), "ghost".to_owned()],
        ..top_of(start_ms, 10, GroupBy::Command)
    };
    let top = query.list_top_processes(request).await.unwrap().into_inner();
    near(top.coverage.unwrap().share, 0.5);
    collector.stop().await;
}

#[tokio::test]
async fn without_a_range_the_last_complete_intervals_answer() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 10_000;
    fleet(&collector, start_ms).await;
    let mut query = collector.query().await;
    let all = query
        .list_top_processes(v1::ListTopProcessesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.range, range(start_ms, start_ms + 10_000));
    near(all.processes[0].cpu_seconds, 6.2);
    let request = v1::ListTopProcessesRequest {
        last_intervals: 3,
        ..Default::default()
    };
    let last = query.list_top_processes(request).await.unwrap().into_inner();
    assert_eq!(last.range, range(start_ms + 7_000, start_ms + 10_000));
    near(last.processes[0].cpu_seconds, 0.9 + 1.2);
    near(last.coverage.unwrap().share, 1.0);
    collector.stop().await;
}

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
    let absent = ask("", "db1", "nobody", 2_000).await.unwrap();
    assert_eq!(
        absent.points[0].cpu_seconds,
        Some(0.0),
        "the host was watched, and there was none"
    );
    assert!(absent.points[5].gap);

    assert_eq!(
        ask(&process_id(99), "", "", 0).await.unwrap_err().code(),
        Code::NotFound
    );
    let chosen = ask("", "db1", "nginx", 0).await.unwrap();
    assert_eq!((chosen.step_ms, chosen.points.len()), (1_000, 12));
    collector.stop().await;
}

#[tokio::test]
async fn exits_come_page_by_page_each_once() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let time_ms = now_ms() - 60_000;
    let mut agent = Agent::new(1);
    let exit = |id: u8, end_ms: i64| v1::ProcessExit {
        process_id: vec![id; 16],
        pid: u32::from(id),
        name: if id % 2 == 0 { "even" } else { "odd" }.to_owned(),
        start_time: Some(timestamp(end_ms - 500)),
        end_time: Some(timestamp(end_ms)),
        lifetime_ns: u64::from(id) * 1_000,
        cpu_time_ns: u64::from(id),
        exit_code: (id % 5 != 0).then_some(u32::from(id % 3)),
        exit_signal: (id % 5 == 0).then_some(9),
        ..v1::ProcessExit::default()
    };
    // Many end in the same millisecond, so that a page ends between equals.
    let exits = (1..=25).map(|id| exit(id, time_ms + i64::from(id / 7))).collect();
    push(
        &collector,
        &[agent.freeze(&v1::Snapshot {
            exits,
            ..snapshot("h", time_ms + 100, vec![])
        })],
    )
    .await
    .unwrap();

    let mut query = collector.query().await;
    let request = v1::ListProcessExitsRequest {
        page_size: 4,
        ..v1::ListProcessExitsRequest::default()
    };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = v1::ListProcessExitsRequest {
            page_token: token,
            ..request.clone()
        };
        let page = query.list_process_exits(page).await.unwrap().into_inner();
        assert!(page.total >= 25);
        seen.extend(
            page.exits
                .iter()
                .map(|exit| (exit.end_time.unwrap().nanos, exit.pid)),
        );
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        if seen.len() == 8 {
            // What comes meanwhile is newer than where we are, and moves nothing.
            let exits = vec![exit(26, time_ms + 50)];
            let late = v1::Snapshot {
                exits,
                ..snapshot("h", time_ms + 1_100, vec![])
            };
            push(&collector, &[agent.freeze(&late)]).await.unwrap();
        }
    }
    assert!(
        seen.iter().map(|(end, _)| end).is_sorted_by(|a, b| a >= b),
        "newest first: {seen:?}"
    );
    let mut pids: Vec<_> = seen.iter().map(|(_, pid)| *pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, (1..=25).collect::<Vec<_>>());

    let mut count = async |change: &dyn Fn(&mut v1::ListProcessExitsRequest)| {
        let mut request = v1::ListProcessExitsRequest::default();
        change(&mut request);
        query.list_process_exits(request).await.unwrap().into_inner()
    };
    assert_eq!(count(&|r| r.name = "even".to_owned()).await.total, 13);
    assert_eq!(count(&|r| r.max_lifetime_ns = 10_000).await.exits.len(), 10);
    // 5 by signal; of the 21 others those whose code is not 0: not a multiple of 3.
    assert_eq!(count(&|r| r.failed = true).await.total, 5 + 14);
    let one = count(&|r| r.process_id = process_id(7)).await.exits;
    assert_eq!(
        (
            one.len(),
            one[0].exit_code,
            one[0].exit_signal,
            one[0].cpu_time_ns
        ),
        (1, Some(1), None, 7)
    );
    assert_eq!(
        count(&|r| r.range = range(time_ms, time_ms + 3)).await.total,
        20,
        "[start, end)"
    );
    assert_eq!(count(&|r| r.hosts = vec!["elsewhere".to_owned()]).await.total, 0);
    collector.stop().await;
}

#[tokio::test]
async fn the_audit_is_the_sum_of_what_agents_audited() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let mut query = collector.query().await;
    let request = v1::GetAuditRequest {
        hosts: vec!["db1".to_owned()],
        range: range(start_ms, start_ms + 10_000),
    };
    let audit = query.get_audit(request).await.unwrap().into_inner();
    let [row] = &audit.rows[..] else {
        panic!("one host: {:?}", audit.rows)
    };
    assert_eq!((row.cpus, row.snapshots, row.wall_ns), (2, 10, 20 * SECOND_NS));
    assert_eq!(
        (row.process_ns, row.kthread_ns, row.idle_ns),
        (3_500_000_000, 100_000_000, 16_000_000_000)
    );
    assert_eq!(
        (row.iowait_ns, row.irq_ns, row.softirq_ns, row.steal_ns),
        (Some(400_000_000), None, None, None)
    );
    assert_eq!(
        (row.residual_ns, row.interrupts_in_tasks, row.torn_reads),
        (-10, true, 10)
    );
    near(row.residual_percent, -10.0 / 20e9 * 100.0);
    assert_eq!(
        row.losses,
        [v1::CoverageLoss {
            reason: "ring_full".to_owned(),
            count: 20
        }]
    );
    collector.stop().await;
}

#[tokio::test]
async fn hosts_are_listed_with_what_they_are() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let mut query = collector.query().await;
    let request = v1::ListHostsRequest {
        range: range(start_ms, start_ms + 10_000),
    };
    let hosts = query.list_hosts(request).await.unwrap().into_inner().hosts;
    let [db1, db2] = &hosts[..] else {
        panic!("two hosts: {hosts:?}")
    };
    assert_eq!(
        (&*db1.host, &*db1.kernel_release, db1.cpus, db1.agents),
        ("db1", "6.18", 2, 1)
    );
    assert_eq!(
        (db1.last_seen, db1.interval_ns),
        (Some(timestamp(start_ms + 10_000)), SECOND_NS)
    );
    assert_eq!(db1.agent_id, uuid::Uuid::from_bytes([1; 16]).to_string());
    near(db1.cpu_percent, 36.0);
    near(db1.agent_cpu_percent, 0.5);
    assert_eq!(
        (
            db1.agent_rss_bytes,
            db1.memory_total_bytes,
            db1.memory_available_bytes
        ),
        (MIB, 8 << 30, None)
    );
    near(db1.coverage.as_ref().unwrap().share, 1.0);
    near(db2.coverage.as_ref().unwrap().share, 0.8);
    collector.stop().await;
}

#[tokio::test]
async fn a_group_has_a_total_and_members() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 10_000;
    fleet(&collector, start_ms).await;
    let mut query = collector.query().await;
    let by_prefix = v1::ListGroupsRequest {
        base: "ngi".to_owned(),
        ..v1::ListGroupsRequest::default()
    };
    let group = query.list_groups(by_prefix).await.unwrap().into_inner();
    near(group.total.as_ref().unwrap().avg_cpu_percent, 70.0);
    near(group.avg_cpu_percent_per_process, 70.0 / 3.0);
    near(group.avg_memory_mb_per_process, 70.0 / 3.0);
    let by_regex = v1::ListGroupsRequest {
        regex: "^(nginx|post.*)$".to_owned(),
        ..Default::default()
    };
    let group = query.list_groups(by_regex).await.unwrap().into_inner();
    let members: Vec<_> = group.members.iter().map(|row| &*row.name).collect();
    assert_eq!(members, ["nginx", "postgres"]);
    near(group.total.unwrap().cpu_seconds, 6.2 + 0.5);
    let nobody = v1::ListGroupsRequest {
        base: "nobody".to_owned(),
        ..Default::default()
    };
    let group = query.list_groups(nobody).await.unwrap().into_inner();
    assert!(group.total.is_none() && group.members.is_empty());
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

#[tokio::test]
async fn text_that_looks_like_sql_stays_text() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 10_000;
    let names = [
        "'; DROP TABLE process_samples; --",
        "a\\'b\"c`d",
        "{name:String}",
        "%_\\x0a\\\\n?",
        "$(reboot) \u{1f980} FORMAT Native",
        "\\N",
    ];
    for (id, name) in (1..).zip(names) {
        let host = format!("host {name}");
        let mut agent = Agent::new(id);
        let exits = vec![v1::ProcessExit {
            process_id: vec![id; 16],
            name: name.to_owned(),
            exe: name.to_owned(),
            end_time: Some(timestamp(start_ms)),
            ..v1::ProcessExit::default()
        }];
        let frame = agent.freeze(&v1::Snapshot {
            exits,
            ..snapshot(&host, start_ms + 1_000, vec![sample(id, name, 10, 1)])
        });
        push(&collector, &[frame]).await.unwrap();
        let mut query = collector.query().await;
        let request = v1::ListTopProcessesRequest {
            hosts: vec![host.clone()],
            name_contains: name.to_owned(),
            ..top_of(start_ms, 1, GroupBy::Process)
        };
        let top = query.list_top_processes(request).await.unwrap().into_inner();
        assert_eq!(
            (
                top.processes.len(),
                &*top.processes[0].name,
                &top.processes[0].hosts[0]
            ),
            (1, name, &host)
        );
        let request = v1::GetProcessHistoryRequest {
            host: host.clone(),
            name: name.to_owned(),
            range: range(start_ms, start_ms + 1_000),
            ..Default::default()
        };
        let history = query.get_process_history(request).await.unwrap().into_inner();
        near(
            history.points.iter().filter_map(|point| point.cpu_seconds).sum(),
            0.01,
        );
        let request = v1::ListProcessExitsRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let exits = query
            .list_process_exits(request)
            .await
            .unwrap()
            .into_inner()
            .exits;
        assert_eq!((exits.len(), &*exits[0].exe), (1, name));
        let request = v1::ListGroupsRequest {
            base: name.to_owned(),
            range: range(start_ms, start_ms + 1_000),
            ..Default::default()
        };
        assert_eq!(
            query
                .list_groups(request)
                .await
                .unwrap()
                .into_inner()
                .members
                .len(),
            1
        );
    }
    assert_eq!(
        engine.number("SELECT count() FROM process_samples").await,
        names.len() as u64
    );
    collector.stop().await;
}

#[tokio::test]
async fn a_wrong_question_is_refused_with_its_field() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let mut query = collector.query().await;
    let field = |status: tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        status.get_details_bad_request().unwrap().field_violations[0]
            .field
            .clone()
    };
    let top = v1::ListTopProcessesRequest::default;
    for (request, name) in [
        (
            v1::ListTopProcessesRequest {
                limit: 1_001,
                ..top()
            },
            "limit",
        ),
        (
            v1::ListTopProcessesRequest {
                metric: Metric::Io.into(),
                ..top()
            },
            "metric",
        ),
        (v1::ListTopProcessesRequest { metric: 99, ..top() }, "metric"),
        (
            v1::ListTopProcessesRequest {
                group_by: GroupBy::Pod.into(),
                ..top()
            },
            "group_by",
        ),
        (
            v1::ListTopProcessesRequest {
                last_intervals: 5_000,
                ..top()
            },
            "last_intervals",
        ),
        (
            v1::ListTopProcessesRequest {
                name_contains: "x".repeat(1_001),
                ..top()
            },
            "name_contains",
        ),
        (
            v1::ListTopProcessesRequest {
                range: range(10_000, 5_000),
                ..top()
            },
            "range",
        ),
        (
            v1::ListTopProcessesRequest {
                range: range(0, now_ms()),
                ..top()
            },
            "range",
        ),
    ] {
        assert_eq!(field(query.list_top_processes(request).await.unwrap_err()), name);
    }
    let watch = v1::WatchTopProcessesRequest {
        query: Some(v1::ListTopProcessesRequest {
            range: range(1, 2),
            ..top()
        }),
    };
    assert_eq!(
        field(query.watch_top_processes(watch).await.unwrap_err()),
        "query.range"
    );
    let history = v1::GetProcessHistoryRequest {
        host: "h".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        field(query.get_process_history(history).await.unwrap_err()),
        "process_id"
    );
    let history = v1::GetProcessHistoryRequest {
        process_id: "' OR 1".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        field(query.get_process_history(history).await.unwrap_err()),
        "process_id"
    );
    let history = v1::GetProcessHistoryRequest {
        host: "h".to_owned(),
        name: "n".to_owned(),
        step_ms: 1,
        ..Default::default()
    };
    assert_eq!(
        field(query.get_process_history(history).await.unwrap_err()),
        "step_ms"
    );
    let exits = v1::ListProcessExitsRequest {
        page_size: 100_001,
        ..Default::default()
    };
    assert_eq!(
        field(query.list_process_exits(exits).await.unwrap_err()),
        "page_size"
    );
    let exits = v1::ListProcessExitsRequest {
        page_token: "junk".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        field(query.list_process_exits(exits).await.unwrap_err()),
        "page_token"
    );
    let groups = v1::ListGroupsRequest::default();
    assert_eq!(field(query.list_groups(groups).await.unwrap_err()), "base");
    let groups = v1::ListGroupsRequest {
        regex: "(".to_owned(),
        ..Default::default()
    };
    let mut agent = Agent::new(1);
    push(
        &collector,
        &[agent.freeze(&snapshot("h", now_ms(), vec![sample(1, "a", 1, 1)]))],
    )
    .await
    .unwrap();
    assert_eq!(field(query.list_groups(groups).await.unwrap_err()), "regex");
    collector.stop().await;
}
