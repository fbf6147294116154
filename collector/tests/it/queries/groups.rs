//! Groups are read from their stored sums where every window has them, and from processes where one has not.

use procscope_proto::v1::{self, GroupBy, Metric};

use crate::support::{
    Agent, Collector, Engine, MIB, SECOND_NS, now_ms, push, range, sample, snapshot, wait_until,
};

const HOUR_MS: i64 = 3_600_000;

/// Two hours of a host, a snapshot each 10 s: a server that grows, one that ends in the middle, and a kernel thread.
fn frames(id: u8, start_ms: i64) -> Vec<v1::PushSnapshotsRequest> {
    let mut agent = Agent::new(id);
    (1..=720_u64)
        .map(|n| {
            let mut web = sample(id * 10 + 1, "web", n, 8);
            web.rss_bytes = Some(n * MIB);
            web.runqueue_ns_delta = (n % 7 == 0).then_some(SECOND_NS);
            web.uid = 7;
            "c1".clone_into(&mut web.container_id);
            "p1".clone_into(&mut web.pod_uid);
            let mut samples = vec![web, sample(id * 10 + 2, "web", 1, 2)];
            if n <= 377 {
                let mut job = sample(id * 10 + 3, "job", 1_000, 64);
                job.exited = n == 377;
                samples.push(job);
            }
            let mut thread = sample(id * 10 + 4, "kworker", 3, 1);
            thread.kernel_thread = true;
            (thread.rss_bytes, thread.peak_rss_bytes) = (None, None);
            samples.push(thread);
            let time_ms = start_ms + i64::try_from(n).unwrap() * 10_000;
            agent.freeze(&snapshot(&format!("host-{id}"), time_ms, samples))
        })
        .collect()
}

/// Every question whose answer the sums hold, over whole hours and over hours, minutes and samples.
async fn answers(collector: &Collector, start_ms: i64) -> Vec<String> {
    let mut query = collector.query().await;
    let mut answers = Vec::new();
    for (from_ms, to_ms) in [(0, 2 * HOUR_MS), (50_000, 2 * HOUR_MS - 70_000), (0, HOUR_MS)] {
        let range = range(start_ms + from_ms, start_ms + to_ms);
        let groups = [
            (GroupBy::Command, ""),
            (GroupBy::Command, "WE"),
            (GroupBy::Container, ""),
            (GroupBy::Pod, ""),
            (GroupBy::User, ""),
            (GroupBy::Host, ""),
        ];
        for (group_by, name) in groups {
            for metric in [Metric::Memory, Metric::PeakMemory] {
                let request = v1::ListTopProcessesRequest {
                    metric: metric.into(),
                    group_by: group_by.into(),
                    limit: 2,
                    range,
                    name_contains: name.to_owned(),
                    ..Default::default()
                };
                let top = query.list_top_processes(request).await.unwrap().into_inner();
                assert!(!top.processes.is_empty());
                answers.push(format!("{group_by:?} {name} {metric:?} {top:#?}"));
            }
        }
        for (base, regex) in [("we", ""), ("", "^(web|job)$")] {
            let request = v1::ListGroupsRequest {
                base: base.to_owned(),
                regex: regex.to_owned(),
                range,
                ..Default::default()
            };
            let groups = query.list_groups(request).await.unwrap().into_inner();
            assert!(groups.total.is_some());
            answers.push(format!("{base} {regex} {groups:#?}"));
        }
    }
    answers
}

fn check_same(expected: &[String], got: &[String], what: &str) {
    for (expected, got) in expected.iter().zip(got) {
        let differ = expected.lines().zip(got.lines()).find(|(a, b)| a != b);
        assert!(expected == got, "{what}: {differ:?} in {expected}");
    }
}

#[tokio::test]
async fn groups_are_read_from_their_sums_where_every_window_has_them() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let start_ms = now_ms() / HOUR_MS * HOUR_MS - 30 * HOUR_MS;
    for id in 1..=2 {
        push(&collector, &frames(id, start_ms)).await.unwrap();
    }
    wait_until("all hours are computed", || async {
        engine
            .number("SELECT sum(version) FROM host_samples_1h FINAL")
            .await
            == 1_440
    })
    .await;
    let windows = ["1m", "1h"];
    // From samples: without the rows of hosts no window counts.
    for unit in windows {
        engine
            .execute(&format!("RENAME TABLE host_samples_{unit} TO kept_{unit}"))
            .await;
        engine
            .execute(&format!("CREATE TABLE host_samples_{unit} AS kept_{unit}"))
            .await;
    }
    let samples = answers(&collector, start_ms).await;
    for unit in windows {
        engine
            .execute(&format!("EXCHANGE TABLES host_samples_{unit} AND kept_{unit}"))
            .await;
    }
    // From the sums: minutes and hours of processes are out of reach.
    for unit in windows {
        engine
            .execute(&format!("RENAME TABLE process_samples_{unit} TO away_{unit}"))
            .await;
    }
    check_same(&samples, &answers(&collector, start_ms).await, "sums");
    for unit in windows {
        engine
            .execute(&format!("RENAME TABLE away_{unit} TO process_samples_{unit}"))
            .await;
    }
    // From processes: a collector that knows no sums computed some windows once more, and what is in the tables of sums is
    // not theirs.
    for (unit, wrong) in [("1m", "toMinute(window) = 7"), ("1h", "host = 'host-2'")] {
        engine
            .execute(&format!(
                "INSERT INTO host_samples_{unit} SELECT * REPLACE (version + 1 AS version, false AS group_sums) \
                 FROM host_samples_{unit} FINAL WHERE {wrong}"
            ))
            .await;
        engine
            .execute(&format!("TRUNCATE TABLE group_samples_{unit}"))
            .await;
    }
    check_same(&samples, &answers(&collector, start_ms).await, "processes");
    collector.stop().await;
}
