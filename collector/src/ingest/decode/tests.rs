//! What passes the door, and what is turned away in which words.

use proptest::prelude::*;

use super::*;

/// When everything arrives: soon after it was measured.
const NOW_MS: i64 = 1_795_323_601_000;

fn request(change: impl FnOnce(&mut v1::Snapshot)) -> v1::PushSnapshotsRequest {
    let mut snapshot = v1::Snapshot {
        host: "db1".to_owned(),
        boot_id: vec![1; 16],
        time: Some(Timestamp {
            seconds: 1_795_323_600,
            nanos: 123_456_789,
        }),
        interval_ns: 1_000_000_000,
        source: v1::Source::Ebpf.into(),
        samples: vec![v1::ProcessSample {
            process_id: vec![2; 16],
            pid: 7,
            name: "nginx".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    change(&mut snapshot);
    framed(snapshot.encode_to_vec())
}

fn framed(snapshot: Vec<u8>) -> v1::PushSnapshotsRequest {
    v1::PushSnapshotsRequest {
        agent_id: vec![7; 16],
        epoch: 1,
        seq: 1,
        snapshot_crc32c: crc32c::crc32c(&snapshot),
        snapshot,
        backlog: false,
    }
}

fn check_refused(change: impl FnOnce(&mut v1::Snapshot), field: &str) {
    let refusal = snapshot(request(change), NOW_MS).unwrap_err();
    assert_eq!(refusal.field, field, "{refusal}");
}

#[test]
fn a_good_snapshot_passes_with_milliseconds() {
    let snapshot = snapshot(request(|_| ()), NOW_MS).unwrap();
    assert_eq!(snapshot.time_ms, 1_795_323_600_123);
    assert_eq!(
        (&*snapshot.host, snapshot.samples.len(), snapshot.received_at_ms),
        ("db1", 1, NOW_MS)
    );
}

#[test]
fn identities_have_their_size_and_are_not_zero() {
    check_refused(|s| s.boot_id = vec![1; 15], "boot_id");
    check_refused(|s| s.samples[0].process_id = vec![0; 16], "samples[0].process_id");
    let mut no_agent = request(|_| ());
    no_agent.agent_id.clear();
    assert_eq!(identity(&no_agent).unwrap_err().field, "agent_id");
    let mut no_epoch = request(|_| ());
    no_epoch.epoch = 0;
    assert_eq!(identity(&no_epoch).unwrap_err().field, "epoch");
    let mut no_seq = request(|_| ());
    no_seq.seq = 0;
    assert_eq!(identity(&no_seq).unwrap_err().field, "seq");
}

#[test]
fn times_and_intervals_are_possible() {
    check_refused(|s| s.time = None, "time");
    check_refused(|s| s.time = Some(Timestamp { seconds: 0, nanos: 0 }), "time");
    check_refused(
        |s| {
            s.time = Some(Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            });
        },
        "time",
    );
    check_refused(
        |s| {
            s.time = Some(Timestamp {
                seconds: 1_795_323_600,
                nanos: -1,
            });
        },
        "time",
    );
    check_refused(|s| s.interval_ns = 0, "interval_ns");
    check_refused(|s| s.interval_ns = u64::MAX, "interval_ns");
}

#[test]
fn figures_that_no_machine_has_are_refused() {
    check_refused(
        |s| s.samples[0].cpu_time_ns_delta = u64::MAX,
        "samples[0].cpu_time_ns_delta",
    );
    check_refused(
        |s| s.samples[0].rss_bytes = Some(u64::MAX),
        "samples[0].rss_bytes",
    );
}

#[test]
fn numbers_threads_and_totals_are_those_of_a_process() {
    check_refused(|s| s.samples[0].pid = 0, "samples[0].pid");
    check_refused(|s| s.samples[0].threads = (4 << 20) + 1, "samples[0].threads");
    let used = |total, delta| {
        move |s: &mut v1::Snapshot| {
            (s.samples[0].cpu_time_ns, s.samples[0].cpu_time_ns_delta) = (total, delta);
        }
    };
    check_refused(used(5, 6), "samples[0].cpu_time_ns_delta");
    for (total, delta) in [(6, 6), (0, 6)] {
        snapshot(request(used(total, delta)), NOW_MS).unwrap();
    }
    // A process may call itself nothing.
    snapshot(request(|s| s.samples[0].name.clear()), NOW_MS).unwrap();
}

#[test]
fn a_process_has_one_row_for_each_program_it_ran() {
    let twice = |generation: u32| {
        move |s: &mut v1::Snapshot| {
            let mut again = s.samples[0].clone();
            again.exec_generation = generation;
            s.samples.push(again);
        }
    };
    check_refused(twice(0), "samples[1].process_id");
    assert_eq!(snapshot(request(twice(1)), NOW_MS).unwrap().samples.len(), 2);
}

#[test]
fn a_clock_may_be_ahead_by_a_day() {
    let ahead = |hours: i64| {
        move |s: &mut v1::Snapshot| {
            s.time = Some(Timestamp {
                seconds: NOW_MS / 1_000 + hours * 3_600,
                nanos: 0,
            });
        }
    };
    let refusal = snapshot(request(ahead(25)), NOW_MS).unwrap_err();
    assert!(
        refusal.field == "time" && refusal.reason.contains("clock"),
        "{refusal}"
    );
    snapshot(request(ahead(24)), NOW_MS).unwrap();
    snapshot(request(ahead(-24 * 365)), NOW_MS).unwrap();
}

#[test]
fn no_sum_of_an_audit_or_of_losses_runs_over() {
    type Change = fn(&mut v1::HostAudit);
    let too_much: [(Change, &str); 9] = [
        (|a| a.cpus = u32::MAX, "cpus"),
        (|a| a.wall_ns = u64::MAX, "wall_ns"),
        (|a| a.process_ns = u64::MAX, "process_ns"),
        (|a| a.idle_ns = u64::MAX, "idle_ns"),
        (|a| a.steal_ns = Some(u64::MAX), "steal_ns"),
        (|a| a.residual_ns = i64::MIN, "residual_ns"),
        (|a| a.residual_ns = i64::MAX, "residual_ns"),
        (|a| a.lost_events = u64::MAX, "lost_events"),
        (|a| a.torn_reads = u64::MAX, "torn_reads"),
    ];
    for (change, field) in too_much {
        let mut audit = v1::HostAudit::default();
        change(&mut audit);
        check_refused(|s| s.audit = Some(audit), &format!("audit.{field}"));
    }
    let lost = |s: &mut v1::Snapshot| {
        s.losses = vec![v1::Loss {
            reason: "ring_full".to_owned(),
            count: u64::MAX,
        }];
    };
    check_refused(lost, "losses.count");
}

#[test]
fn what_a_process_did_is_bounded_field_by_field() {
    type Change = fn(&mut v1::ProcessSample);
    let too_much: [(Change, &str); 17] = [
        (|s| s.user_time_ns_delta = Some(u64::MAX), "user_time_ns_delta"),
        (
            |s| s.system_time_ns_delta = Some(u64::MAX),
            "system_time_ns_delta",
        ),
        (
            |s| s.ended_threads_cpu_time_ns_delta = Some(u64::MAX),
            "ended_threads_cpu_time_ns_delta",
        ),
        (
            |s| s.runqueue_waits_delta = Some(u64::MAX),
            "runqueue_waits_delta",
        ),
        (
            |s| s.runqueue_wait_counts = vec![1, u64::MAX],
            "runqueue_wait_counts",
        ),
        (|s| s.rss_anon_bytes = Some(u64::MAX), "rss_anon_bytes"),
        (|s| s.rss_file_bytes = Some(u64::MAX), "rss_file_bytes"),
        (|s| s.rss_shmem_bytes = Some(u64::MAX), "rss_shmem_bytes"),
        (|s| s.swap_bytes = Some(u64::MAX), "swap_bytes"),
        (|s| s.virtual_bytes = Some(u64::MAX), "virtual_bytes"),
        (
            |s| s.open_file_descriptors = Some(u32::MAX),
            "open_file_descriptors",
        ),
        (|s| s.read_bytes_delta = Some(u64::MAX), "read_bytes_delta"),
        (|s| s.written_bytes_delta = Some(u64::MAX), "written_bytes_delta"),
        (
            |s| s.read_operations_delta = Some(u64::MAX),
            "read_operations_delta",
        ),
        (
            |s| s.write_operations_delta = Some(u64::MAX),
            "write_operations_delta",
        ),
        (
            |s| s.disk_read_bytes_delta = Some(u64::MAX),
            "disk_read_bytes_delta",
        ),
        (
            |s| s.disk_written_bytes_delta = Some(u64::MAX),
            "disk_written_bytes_delta",
        ),
    ];
    for (change, field) in too_much {
        check_refused(|s| change(&mut s.samples[0]), &format!("samples[0].{field}"));
    }
    check_refused(
        |s| s.samples[0].runqueue_wait_counts = vec![0; 65],
        "samples[0].runqueue_wait_counts",
    );
    for state in ["RS", "Q", "\x1b", "ß", "r", " "] {
        check_refused(|s| s.samples[0].state = state.to_owned(), "samples[0].state");
    }
    check_refused(|s| s.samples[0].source = 77, "samples[0].source");
    check_refused(
        |s| {
            s.exits = vec![v1::ProcessExit {
                process_id: vec![2; 16],
                pid: 7,
                end_time: s.time,
                source: -1,
                ..Default::default()
            }];
        },
        "exits[0].source",
    );
}

#[test]
fn what_is_at_its_bound_passes() {
    let most = |s: &mut v1::Snapshot| {
        let row = &mut s.samples[0];
        row.runqueue_wait_counts = vec![IN_INTERVAL_MAX; 64];
        row.disk_written_bytes_delta = Some(IN_INTERVAL_MAX);
        row.open_file_descriptor_limit = Some(u64::MAX);
        row.user_time_ns_delta = Some(s.interval_ns * CPUS_MAX);
        row.state = "Z".to_owned();
        row.source = v1::Source::Proc.into();
        s.agent_cost = Some(v1::AgentCost {
            programs: vec![
                v1::ProgramCost {
                    name: "x".repeat(64),
                    ..Default::default()
                };
                64
            ],
            kernel_ppm: Some(PPM_MAX),
            attach_ns: Some(0),
            ..Default::default()
        });
    };
    let snapshot = snapshot(request(most), NOW_MS).unwrap();
    assert_eq!(snapshot.sources(), ["ebpf", "proc"]);
    assert_eq!(snapshot.agent_cost.unwrap().programs.len(), 64);
    assert_eq!(
        snapshot.samples[0].parent_start_boottime_ns, None,
        "0 is not known"
    );
}

#[test]
fn what_measuring_cost_is_bounded() {
    type Change = fn(&mut v1::AgentCost);
    let too_much: [(Change, &str); 8] = [
        (|c| c.programs = vec![v1::ProgramCost::default(); 65], "programs"),
        (|c| c.programs[0].name = "x".repeat(65), "programs.name"),
        // Each of these becomes four bytes.
        (|c| c.programs[0].name = "\x1b".repeat(17), "programs.name"),
        (|c| c.programs[0].runs = u64::MAX, "programs.runs"),
        (|c| c.programs[0].run_ns = u64::MAX, "programs.run_ns"),
        (|c| c.attach_ns = Some(u64::MAX), "attach_ns"),
        (|c| c.kernel_ppm = Some(u64::MAX), "kernel_ppm"),
        (|c| c.kernel_budget_ppm = Some(u64::MAX), "kernel_budget_ppm"),
    ];
    for (change, field) in too_much {
        let mut cost = v1::AgentCost {
            programs: vec![v1::ProgramCost::default()],
            ..Default::default()
        };
        change(&mut cost);
        check_refused(|s| s.agent_cost = Some(cost), &format!("agent_cost.{field}"));
    }
}

#[test]
fn texts_are_bounded() {
    check_refused(|s| s.host.clear(), "host");
    check_refused(|s| s.host = "x".repeat(256), "host");
    check_refused(|s| s.samples[0].name = "x".repeat(256), "samples[0].name");
    check_refused(|s| s.source = 77, "source");
    check_refused(
        |s| {
            s.processes = vec![v1::ProcessInfo {
                process_id: vec![2; 16],
                pid: 7,
                cmdline: "x".repeat(16_385),
                ..Default::default()
            }];
        },
        "processes[0].cmdline",
    );
}

#[test]
fn what_could_steer_a_terminal_is_escaped_again() {
    let snapshot = snapshot(
        request(|s| s.samples[0].name = "a\x1b[31m\nü\u{202e}\\x1b".to_owned()),
        NOW_MS,
    )
    .unwrap();
    assert_eq!(
        &*snapshot.samples[0].identity.name,
        "a\\x1b[31m\\x0aü\\xe2\\x80\\xae\\x1b"
    );
}

#[test]
fn a_damaged_snapshot_is_told_by_its_checksum() {
    let mut damaged = request(|_| ());
    damaged.snapshot[3] ^= 1;
    assert_eq!(snapshot(damaged, NOW_MS).unwrap_err().field, "snapshot_crc32c");
}

#[test]
fn losses_of_one_reason_are_added_up() {
    let twice = |s: &mut v1::Snapshot| {
        s.losses = vec![
            v1::Loss {
                reason: "ring_full".to_owned(),
                count: 2
            };
            2
        ];
    };
    assert_eq!(
        snapshot(request(twice), NOW_MS).unwrap().losses,
        [("ring_full".to_owned(), 4)]
    );
}

proptest! {
    #[test]
    fn no_bytes_whatever_break_the_door(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        // Either outcome is right: that it comes back at all is the property.
        drop(snapshot(framed(bytes), NOW_MS));
    }

    #[test]
    fn a_snapshot_with_one_changed_byte_is_checked_or_refused(at in 0_usize..60, byte: u8) {
        let mut bytes = request(|_| ()).snapshot;
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(snapshot) = snapshot(framed(bytes), NOW_MS) {
            prop_assert!(!snapshot.host.is_empty() && snapshot.host.len() <= NAME_BYTES_MAX);
            prop_assert!(!snapshot.host.contains(char::is_control));
            prop_assert!((1..=INTERVAL_NS_MAX).contains(&snapshot.interval_ns));
        }
    }
}
