//! Known snapshots in, exact figures out, for each question.

mod again;
mod coarse;
mod coverage;
mod figures;
mod groups;
mod half_stored;
mod hostile;
mod identity;
mod lists;
mod moving;
mod reads;
mod time;
mod top;

use procscope_proto::v1::{self, GroupBy};

use crate::support::{Agent, Collector, MIB, SECOND_NS, push, range, sample, snapshot};

/// The pod of one of the fleet.
pub(super) const POD: &str = "5cf2a1b8-7d3e-4f60-9a1b-0c2d3e4f5a6b";

/// Two hosts over ten seconds.
///
/// db1: two nginx (100 and 200 ms/s, 10 and 20 MiB; the first is in a pod), postgres (50 ms/s, 100 MiB), a kernel
/// thread (10 ms/s), and burst, which uses a whole CPU for five seconds and ends in the fifth. db2: one nginx
/// (400 ms/s, 40 MiB).
pub(super) async fn fleet(collector: &Collector, start_ms: i64) {
    let (mut db1, mut db2) = (Agent::new(1), Agent::new(2));
    let (mut frames1, mut frames2) = (Vec::new(), Vec::new());
    for second in 1..=10 {
        let time_ms = start_ms + second * 1_000;
        let mut samples = vec![
            v1::ProcessSample {
                pod_uid: POD.to_owned(),
                ..sample(1, "nginx", 100, 10)
            },
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
            pid: 1,
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

pub(super) fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-6, "got {got}, expected {expected}");
}

pub(super) fn top_of(start_ms: i64, seconds: i64, group_by: GroupBy) -> v1::ListTopProcessesRequest {
    v1::ListTopProcessesRequest {
        range: range(start_ms, start_ms + seconds * 1_000),
        group_by: group_by.into(),
        ..v1::ListTopProcessesRequest::default()
    }
}

pub(super) fn names(top: &v1::ListTopProcessesResponse) -> Vec<&str> {
    top.processes.iter().map(|row| &*row.name).collect()
}
