//! Writes the seeds of the corpus that no hand can write: `cargo run --package procscope-fuzz --example seeds`.

use std::{fs, io, path::Path};

use procscope_agent::{queue::Frozen, spool::segment::Encoder};
use procscope_proto::v1;
use prost::Message as _;

/// Snapshots in the segment: a key, its copy, and some that lean on it.
const SNAPSHOTS: u64 = 4;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let (mut encoder, mut segment) = (Encoder::default(), Vec::new());
    for seq in 1..=SNAPSHOTS {
        let snapshot = snapshot(seq).encode_to_vec();
        let request = v1::PushSnapshotsRequest {
            agent_id: vec![7; 16],
            epoch: 7,
            seq,
            snapshot_crc32c: crc32c::crc32c(&snapshot),
            snapshot,
            ..v1::PushSnapshotsRequest::default()
        };
        if seq == 1 {
            fs::write(corpus.join("snapshot/request"), request.encode_to_vec())?;
            fs::write(corpus.join("snapshot/snapshot"), &request.snapshot)?;
        }
        let frozen = Frozen {
            request,
            time_ms: 1_795_323_600_000,
            stated: 0,
        };
        if !encoder.encode(&frozen, seq, 0, &mut segment) {
            return Err(io::Error::other("a seed is too long for a record"));
        }
    }
    fs::write(corpus.join("segment/four"), segment)
}

/// One with something in every list.
fn snapshot(seq: u64) -> v1::Snapshot {
    let samples = (1..=3_u32).map(|pid| v1::ProcessSample {
        process_id: [[1; 12].as_slice(), &pid.to_be_bytes()].concat(),
        pid,
        parent_pid: 1,
        start_boottime_ns: 5,
        name: "nginx".to_owned(),
        container_id: "0123456789abcdef".repeat(4),
        cpu_time_ns: 9_000_000 * seq,
        cpu_time_ns_delta: 9_000_000,
        rss_bytes: Some(4096),
        peak_rss_bytes: Some(8192),
        threads: 2,
        runqueue_ns_delta: Some(3),
        voluntary_switches_delta: Some(2),
        state: "S".to_owned(),
        runqueue_wait_counts: vec![1, 2, 3],
        ..v1::ProcessSample::default()
    });
    v1::Snapshot {
        host: "web-1".to_owned(),
        boot_id: vec![1; 16],
        time: Some(prost_types::Timestamp {
            seconds: 1_795_323_600,
            nanos: 5,
        }),
        interval_ns: 1_000_000_000,
        source: v1::Source::Ebpf.into(),
        samples: samples.collect(),
        exits: vec![v1::ProcessExit {
            process_id: vec![3; 16],
            pid: 9,
            name: "true".to_owned(),
            lifetime_ns: 5_000_000,
            cpu_time_ns: 1_000_000,
            exit_code: Some(0),
            ..v1::ProcessExit::default()
        }],
        processes: vec![v1::ProcessInfo {
            process_id: vec![2; 16],
            pid: 1,
            name: "nginx".to_owned(),
            exe: "/usr/sbin/nginx".to_owned(),
            cmdline: "nginx -g ********".to_owned(),
            cgroup: "/system.slice/nginx.service".to_owned(),
            ..v1::ProcessInfo::default()
        }],
        audit: Some(v1::HostAudit {
            cpus: 2,
            wall_ns: 2_000_000_000,
            process_ns: 27_000_000,
            idle_ns: 1_973_000_000,
            residual_ns: -7,
            ..v1::HostAudit::default()
        }),
        host_info: Some(v1::HostInfo {
            agent_version: "0.1.0".to_owned(),
            kernel_release: "6.12.0".to_owned(),
            cpus: 2,
            ..v1::HostInfo::default()
        }),
        losses: vec![v1::Loss {
            reason: "ring_full".to_owned(),
            count: 3,
        }],
        agent_cost: Some(v1::AgentCost {
            programs: vec![v1::ProgramCost {
                name: "sched_switch".to_owned(),
                runs: 10,
                run_ns: 500,
            }],
            ..v1::AgentCost::default()
        }),
    }
}
