//! Minutes and hours give the same answers as the samples that they were computed from, bit for bit.

use procscope_proto::v1::{self, GroupBy, Metric};

use crate::support::{
    Agent, Collector, Engine, MIB, SECOND_NS, now_ms, push, range, sample, snapshot, wait_until,
};

pub(super) const HOUR_MS: i64 = 3_600_000;

const METRICS: [Metric; 7] = [
    Metric::Cpu,
    Metric::Memory,
    Metric::PeakMemory,
    Metric::Runqueue,
    Metric::Io,
    Metric::Faults,
    Metric::Switches,
];

const GROUPS: [GroupBy; 6] = [
    GroupBy::Process,
    GroupBy::Command,
    GroupBy::Container,
    GroupBy::Pod,
    GroupBy::User,
    GroupBy::Host,
];

/// A small generator of numbers: the same ones in every run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// What an agent tells of its machine and of itself, now and then less of it.
fn described(snapshot: v1::Snapshot, numbers: &mut Numbers) -> v1::Snapshot {
    let small = |numbers: &mut Numbers| u32::try_from(1 + numbers.below(900)).unwrap();
    let some = |numbers: &mut Numbers| (numbers.below(3) > 0).then(|| numbers.below(SECOND_NS));
    let program = |name: &str, numbers: &mut Numbers| v1::ProgramCost {
        name: name.to_owned(),
        runs: numbers.below(3),
        run_ns: numbers.below(900),
    };
    let audit = v1::HostAudit {
        cpus: 2 + small(numbers) % 3,
        wall_ns: 8 * SECOND_NS + numbers.below(SECOND_NS),
        process_ns: numbers.below(SECOND_NS),
        kthread_ns: numbers.below(SECOND_NS),
        idle_ns: numbers.below(SECOND_NS),
        iowait_ns: some(numbers),
        irq_ns: some(numbers),
        softirq_ns: some(numbers),
        steal_ns: some(numbers),
        interrupts_in_tasks: numbers.below(2) > 0,
        residual_ns: i64::try_from(numbers.below(SECOND_NS)).unwrap() - 500_000_000,
        lost_events: numbers.below(3),
        torn_reads: numbers.below(3),
    };
    let info = v1::HostInfo {
        agent_version: format!("0.{}", small(numbers)),
        kernel_release: format!("6.{}", small(numbers)),
        architecture: "x86_64".to_owned(),
        cpus: audit.cpus,
        memory_total_bytes: 64 * MIB + numbers.below(MIB),
        memory_available_bytes: some(numbers),
        processes: small(numbers),
        threads: small(numbers),
    };
    let cost = v1::AgentCost {
        cpu_time_ns_delta: numbers.below(SECOND_NS),
        rss_bytes: numbers.below(MIB),
        drain_ns: numbers.below(SECOND_NS),
        events: numbers.below(900),
        queue_len: 0,
        programs: vec![program("sched_switch", numbers), program("rss_stat", numbers)],
        attach_ns: some(numbers),
        kernel_ppm: some(numbers),
        kernel_budget_ppm: some(numbers),
    };
    v1::Snapshot {
        audit: (numbers.below(9) > 0).then_some(audit),
        host_info: (numbers.below(9) > 0).then_some(info),
        agent_cost: (numbers.below(9) > 0).then_some(cost),
        losses: (0..numbers.below(2))
            .map(|_| v1::Loss {
                reason: "ring_full".to_owned(),
                count: 1 + numbers.below(9),
            })
            .collect(),
        ..snapshot
    }
}

/// Three hosts over three hours, at uneven times: processes that come and go, change their names, and lack figures.
pub(super) fn frames(id: u8, start_ms: i64, numbers: &mut Numbers) -> Vec<v1::PushSnapshotsRequest> {
    let mut agent = Agent::new(id);
    let (mut frames, mut dead) = (Vec::new(), [false; 9]);
    let mut time_ms = start_ms + 1 + i64::try_from(numbers.below(9_000)).unwrap();
    while time_ms < start_ms + 3 * HOUR_MS {
        let mut samples = Vec::new();
        for process in 1..=8_u8 {
            if dead[usize::from(process)] || numbers.below(5) == 0 {
                continue;
            }
            let name = ["web", "db", "job"][usize::from(process) % 3];
            let mut row = sample(id * 10 + process, name, numbers.below(900), numbers.below(64));
            row.peak_rss_bytes = row.rss_bytes.map(|rss| rss + numbers.below(MIB));
            row.uid = u32::from(process) % 2;
            ["", "c1", "c2"][usize::from(process) % 3].clone_into(&mut row.container_id);
            // One is moved into a pod, within a minute and an hour, and nothing else of it changes.
            let moved = process == 5 && time_ms > start_ms + HOUR_MS + HOUR_MS / 2 + 30_000;
            let pod = if moved { 1 } else { usize::from(process % 4) };
            ["", "p1", "p2", ""][pod].clone_into(&mut row.pod_uid);
            row.exec_generation = u32::try_from((time_ms - start_ms) / HOUR_MS).unwrap();
            row.exited = numbers.below(2_000) == 0;
            dead[usize::from(process)] = row.exited;
            row.runqueue_ns_delta = (numbers.below(3) > 0).then(|| numbers.below(SECOND_NS));
            row.minor_faults_delta = (numbers.below(3) > 0).then(|| numbers.below(1_000));
            row.disk_read_bytes_delta = (numbers.below(3) > 0).then(|| numbers.below(MIB));
            row.open_file_descriptors = (numbers.below(3) > 0).then_some(40);
            if process == 8 {
                row.kernel_thread = true;
                (row.rss_bytes, row.peak_rss_bytes) = (None, None);
            }
            samples.push(row);
        }
        let mut snapshot = snapshot(&format!("host-{id}"), time_ms, samples);
        snapshot.interval_ns = 4 * SECOND_NS + numbers.below(SECOND_NS);
        frames.push(agent.freeze(&described(snapshot, numbers)));
        time_ms += 5_000 + i64::try_from(numbers.below(4_000)).unwrap();
    }
    frames
}

/// Questions of every kind over ranges of every kind, with their answers as text.
async fn answers(collector: &Collector, start_ms: i64) -> Vec<(String, String)> {
    let mut numbers = Numbers(7);
    let mut query = collector.query().await;
    let mut answers = Vec::new();
    for question in 0..30_usize {
        let (a, b) = match question % 3 {
            0 => (0, 3 * HOUR_MS),
            1 => (60_000, 7_200_000 + 120_000),
            _ => {
                let mut instant = || i64::try_from(numbers.below(3 * HOUR_MS.unsigned_abs())).unwrap();
                (instant(), instant())
            }
        };
        let (from_ms, to_ms) = (start_ms + a.min(b), start_ms + a.max(b) + 1);
        let hosts = match numbers.below(3) {
            0 => vec!["host-2".to_owned()],
            1 => vec!["host-1".to_owned(), "host-3".to_owned()],
            _ => Vec::new(),
        };
        let request = v1::ListTopProcessesRequest {
            hosts,
            metric: METRICS[numbers.index(METRICS.len())].into(),
            group_by: GROUPS[question % GROUPS.len()].into(),
            limit: u32::try_from(1 + numbers.below(30)).unwrap(),
            range: range(from_ms, to_ms),
            name_contains: ["", "", "b"][numbers.index(3)].to_owned(),
            ..Default::default()
        };
        let top = query
            .list_top_processes(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(question % 3 == 2 || !top.processes.is_empty());
        answers.push((format!("{request:?}"), format!("{top:#?}")));
        let (base, regex) = [("w", ""), ("", "^(web|job)$"), ("", "b")][numbers.index(3)];
        let asked = v1::ListGroupsRequest {
            base: base.to_owned(),
            regex: regex.to_owned(),
            hosts: request.hosts.clone(),
            range: request.range,
            ..Default::default()
        };
        let groups = query.list_groups(asked.clone()).await.unwrap().into_inner();
        assert!(question % 3 == 2 || groups.total.is_some());
        answers.push((format!("{asked:?}"), format!("{groups:#?}")));
        let asked = v1::GetAuditRequest {
            hosts: request.hosts,
            range: request.range,
        };
        let audit = query.get_audit(asked.clone()).await.unwrap().into_inner();
        assert!(question % 3 == 2 || audit.rows.iter().any(|row| !row.programs.is_empty()));
        answers.push((format!("{asked:?}"), format!("{audit:#?}")));
        let asked = v1::ListHostsRequest { range: asked.range };
        let hosts = query.list_hosts(asked).await.unwrap().into_inner();
        assert!(question % 3 == 2 || hosts.hosts.len() == 3);
        answers.push((format!("{asked:?}"), format!("{hosts:#?}")));
    }
    answers
}

#[tokio::test]
async fn minutes_and_hours_answer_as_samples_do() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() / HOUR_MS * HOUR_MS - 30 * HOUR_MS;
    let mut numbers = Numbers(1);
    for id in 1..=3 {
        push(&collector, &frames(id, start_ms, &mut numbers))
            .await
            .unwrap();
    }
    let count = engine.number("SELECT count() FROM host_samples").await;
    wait_until("all hours are computed", || async {
        engine
            .number("SELECT sum(version) FROM host_samples_1h FINAL")
            .await
            == count
    })
    .await;
    // What comes late behind the back of this collector, in one minute that has an hour and in one at the begin; and
    // what a collector left that was not done: rows of processes with no row of their host.
    for (minute, half) in [(75, false), (1, false), (80, true)] {
        for table in ["process_samples", "host_samples"] {
            if half && table == "host_samples" {
                continue;
            }
            let (from_ms, to_ms) = (start_ms + minute * 60_000, start_ms + (minute + 1) * 60_000);
            engine
                .execute(&format!(
                    "INSERT INTO {table} SELECT * REPLACE (seq + 10000 AS seq, time + INTERVAL 3 MILLISECOND AS time) \
                     FROM {table} AS s WHERE toUnixTimestamp64Milli(s.time) > {from_ms} AND \
                     toUnixTimestamp64Milli(s.time) < {to_ms} - 3"
                ))
                .await;
        }
    }
    let coarse = answers(&collector, start_ms).await;
    // Without the rows of hosts no minute and no hour counts.
    for table in ["host_samples_1m", "host_samples_1h"] {
        engine
            .execute(&format!("CREATE TABLE kept_{table} AS {table}"))
            .await;
        engine
            .execute(&format!("INSERT INTO kept_{table} SELECT * FROM {table}"))
            .await;
        engine.execute(&format!("TRUNCATE TABLE {table}")).await;
    }
    let samples = answers(&collector, start_ms).await;
    for ((question, coarse), (_, samples)) in coarse.iter().zip(&samples) {
        let differ = coarse.lines().zip(samples.lines()).find(|(a, b)| a != b);
        assert!(coarse == samples, "{question}: {differ:?}");
    }
    // They were read: once the samples are gone they still answer.
    for table in ["host_samples_1m", "host_samples_1h"] {
        engine
            .execute(&format!("INSERT INTO {table} SELECT * FROM kept_{table}"))
            .await;
    }
    let request = v1::ListTopProcessesRequest {
        range: range(start_ms + 2 * HOUR_MS, start_ms + 3 * HOUR_MS),
        ..Default::default()
    };
    let books = v1::GetAuditRequest {
        range: request.range,
        ..Default::default()
    };
    let list = v1::ListHostsRequest { range: request.range };
    let mut query = collector.query().await;
    let books_before = query.get_audit(books.clone()).await.unwrap().into_inner();
    let list_before = query.list_hosts(list).await.unwrap().into_inner();
    let before = query
        .list_top_processes(request.clone())
        .await
        .unwrap()
        .into_inner();
    for table in ["process_samples", "host_samples"] {
        engine.execute(&format!("TRUNCATE TABLE {table}")).await;
    }
    let after = query.list_top_processes(request).await.unwrap().into_inner();
    assert!(!before.processes.is_empty());
    assert_eq!(before.processes, after.processes);
    assert_eq!((books_before.rows.len(), list_before.hosts.len()), (3, 3));
    let audit = query.get_audit(books).await.unwrap().into_inner();
    let sums = |answer: &v1::GetAuditResponse| {
        let rows = answer.rows.iter().cloned();
        let rows = rows.map(|row| v1::AuditRow {
            losses: Vec::new(),
            ..row
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(sums(&books_before), sums(&audit));
    // The coverage of a range that samples are kept for is read from them.
    let hosts = |answer: v1::ListHostsResponse| {
        let hosts = answer.hosts.into_iter();
        let hosts = hosts.map(|host| v1::Host {
            coverage: None,
            ..host
        });
        hosts.collect::<Vec<_>>()
    };
    let list_before = hosts(list_before);
    assert_eq!(
        list_before,
        hosts(query.list_hosts(list).await.unwrap().into_inner())
    );
    collector.stop().await;

    // Beyond the samples: a range that nobody can cut exactly any more goes outwards, and says so.
    let collector = Collector::start_as(engine.config(), |config| config.retention.samples_days = 1).await;
    collector.wait_ready().await;
    let mut query = collector.query().await;
    let request = v1::ListTopProcessesRequest {
        range: range(start_ms + 2 * HOUR_MS + 1, start_ms + 3 * HOUR_MS - 1),
        ..Default::default()
    };
    let widened = query.list_top_processes(request).await.unwrap().into_inner();
    assert_eq!(
        widened.range,
        range(start_ms + 2 * HOUR_MS, start_ms + 3 * HOUR_MS)
    );
    assert_eq!(widened.processes, before.processes);
    let asked = v1::GetAuditRequest {
        range: range(start_ms + 2 * HOUR_MS + 1, start_ms + 3 * HOUR_MS - 1),
        ..Default::default()
    };
    let list = v1::ListHostsRequest { range: asked.range };
    let audit = query.get_audit(asked).await.unwrap().into_inner();
    assert_eq!((audit.range, &audit.rows), (widened.range, &books_before.rows));
    assert_eq!(
        list_before,
        hosts(query.list_hosts(list).await.unwrap().into_inner())
    );
    let share = widened.coverage.unwrap().share;
    assert!(share > 0.2, "{share}");
    let request = v1::GetProcessHistoryRequest {
        host: "host-1".to_owned(),
        name: "web".to_owned(),
        range: range(start_ms + 1, start_ms + 3 * HOUR_MS),
        step_ms: 90_000,
        ..Default::default()
    };
    let history = query.get_process_history(request).await.unwrap().into_inner();
    assert_eq!((history.step_ms, history.points.len()), (120_000, 90));
    assert_eq!(history.range, range(start_ms, start_ms + 3 * HOUR_MS));
    let seconds: f64 = history.points.iter().filter_map(|point| point.cpu_seconds).sum();
    let stored =
        "SELECT sum(cpu_time_ns_delta) FROM process_samples_1h FINAL WHERE host = 'host-1' AND name = 'web'";
    let stored = engine.number(stored).await;
    assert!((seconds - stored as f64 / 1e9).abs() < 1e-6, "{seconds} {stored}");
    collector.stop().await;
}
