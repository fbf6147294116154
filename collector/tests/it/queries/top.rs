//! Top and groups.

use procscope_proto::v1::{self, GroupBy, Metric};

use super::{POD, fleet, names, near, top_of};
use crate::support::{
    Agent, Collector, Engine, MIB, SECOND_NS, now_ms, process_id, push, range, sample, snapshot, timestamp,
};

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
    for (id, uid, container, pod) in [(1, 10, "a", ""), (2, 10, "b", POD), (3, 20, "b", POD)] {
        let mut row = sample(id, &format!("p{id}"), u64::from(id) * 10, 10 - u64::from(id));
        row.uid = uid;
        row.container_id = container.to_owned();
        row.pod_uid = pod.to_owned();
        row.runqueue_ns_delta = Some(if id == 2 { 9 } else { 1 });
        row.voluntary_switches_delta = Some(if id == 1 { 9 } else { 1 });
        row.involuntary_switches_delta = None;
        row.major_faults_delta = Some(if id == 2 { 9 } else { 1 });
        row.disk_written_bytes_delta = Some(if id == 1 { 9 } else { 1 });
        row.read_bytes_delta = Some(1_000 * u64::from(id));
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
            (Metric::Io, "p1"),
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
        (GroupBy::Pod, vec![(POD, 5.0), ("", 1.0)]),
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
async fn a_limit_leaves_rows_out_and_changes_no_figure() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() - 60_000;
    fleet(&collector, start_ms).await;
    let contained =
        [(21, "a", 700), (22, "b", 30), (23, "b", 40)].map(|(id, container, ms)| v1::ProcessSample {
            uid: u32::from(id),
            container_id: container.to_owned(),
            pod_uid: format!("pod of {container}"),
            ..sample(id, "nginx", ms, 5)
        });
    let snapshot = snapshot("db3", start_ms + 1_000, contained.to_vec());
    push(&collector, &[Agent::new(3).freeze(&snapshot)])
        .await
        .unwrap();
    let mut query = collector.query().await;
    let mut top = async |group_by, metric: Metric, limit| {
        let request = v1::ListTopProcessesRequest {
            metric: metric.into(),
            limit,
            ..top_of(start_ms, 10, group_by)
        };
        query
            .list_top_processes(request)
            .await
            .unwrap()
            .into_inner()
            .processes
    };
    for (group_by, rows) in [
        (GroupBy::Process, 9),
        (GroupBy::Command, 4),
        (GroupBy::Container, 3),
        (GroupBy::Pod, 4),
        (GroupBy::User, 4),
        (GroupBy::Host, 3),
    ] {
        for metric in [
            Metric::Cpu,
            Metric::Memory,
            Metric::PeakMemory,
            Metric::Runqueue,
            Metric::Io,
        ] {
            let all = top(group_by, metric, 0).await;
            assert_eq!(all.len(), rows, "{group_by:?}");
            for limit in [1, 2] {
                let first = top(group_by, metric, u32::try_from(limit).unwrap()).await;
                assert_eq!(first, all[..limit], "{metric:?} {group_by:?}");
            }
        }
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
