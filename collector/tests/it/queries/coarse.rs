//! Minutes and hours give the same answers as the samples that they were computed from, bit for bit.

use procscope_proto::v1::{self, GroupBy, Metric};

use crate::support::{
    Agent, Collector, Engine, MIB, SECOND_NS, now_ms, push, range, sample, snapshot, wait_until,
};

const HOUR_MS: i64 = 3_600_000;

const METRICS: [Metric; 7] = [
    Metric::Cpu,
    Metric::Memory,
    Metric::PeakMemory,
    Metric::Runqueue,
    Metric::Io,
    Metric::Faults,
    Metric::Switches,
];

const GROUPS: [GroupBy; 5] = [
    GroupBy::Process,
    GroupBy::Command,
    GroupBy::Container,
    GroupBy::User,
    GroupBy::Host,
];

/// A small generator of numbers: the same ones in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// Three hosts over three hours, at uneven times: processes that come and go, change their names, and lack figures.
fn frames(id: u8, start_ms: i64, numbers: &mut Numbers) -> Vec<v1::PushSnapshotsRequest> {
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
        frames.push(agent.freeze(&snapshot));
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
    let mut query = collector.query().await;
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
