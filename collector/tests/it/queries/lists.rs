//! Exits, hosts, audit, groups.

use procscope_collector::groups::NamedGroups;
use procscope_proto::v1;

use super::{fleet, near};
use crate::support::{
    Agent, Collector, Engine, MIB, SECOND_NS, now_ms, process_id, push, range, snapshot, timestamp,
};

#[tokio::test]
async fn exits_come_page_by_page_each_once() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let time_ms = now_ms() - 60_000;
    let mut agent = Agent::new(1);
    let exit = |id: u8, end_ms: i64| v1::ProcessExit {
        process_id: vec![id; 16],
        pid: u32::from(id),
        name: if id.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
        start_time: Some(timestamp(end_ms - 500)),
        end_time: Some(timestamp(end_ms)),
        lifetime_ns: u64::from(id) * 1_000,
        cpu_time_ns: u64::from(id),
        exit_code: (!id.is_multiple_of(5)).then_some(u32::from(id % 3)),
        exit_signal: id.is_multiple_of(5).then_some(9),
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
    assert_eq!(
        count(&|r| r.hosts = vec!["elsewhere".to_owned(), "h".to_owned()])
            .await
            .total,
        26
    );
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
    let collector = Collector::start_as(engine.config(), |config| {
        let groups = [("web".to_owned(), toml::from_str("prefixes = ['ngin']").unwrap())];
        config.groups = NamedGroups::check(groups.into()).unwrap();
    })
    .await;
    collector.wait_ready().await;
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
    let named = |group: &str| v1::ListGroupsRequest {
        group: group.to_owned(),
        ..Default::default()
    };
    let group = query.list_groups(named("web")).await.unwrap().into_inner();
    assert_eq!(group.members.len(), 1);
    near(group.total.unwrap().avg_cpu_percent, 70.0);
    let unknown = query.list_groups(named("nothing")).await.unwrap_err();
    assert!(unknown.code() == tonic::Code::NotFound && unknown.message().contains("web"));
    let both = v1::ListGroupsRequest {
        base: "n".to_owned(),
        ..named("web")
    };
    let both = query.list_groups(both).await.unwrap_err();
    assert_eq!(both.code(), tonic::Code::InvalidArgument);
    let nobody = v1::ListGroupsRequest {
        base: "nobody".to_owned(),
        ..Default::default()
    };
    let group = query.list_groups(nobody).await.unwrap().into_inner();
    assert!(group.total.is_none() && group.members.is_empty());
    collector.stop().await;
}
