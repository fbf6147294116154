//! Every field of the wire, and every column of the store: each comes back as it was sent.

use procscope_proto::v1;

use crate::support::{Agent, Collector, Engine, now_ms, push, sample, snapshot, timestamp};

/// Columns that hold times.
const TIMES: [&str; 3] = ["time", "start_time", "end_time"];

/// Holds one row against what is expected of every column of its table; only `received_at` is the collector's own.
async fn check(engine: &Engine, table: &str, of_row: &str, expected: &[(&str, String)]) {
    let columns = "SELECT groupArray(name) FROM system.columns WHERE database = 'procscope' AND name != 'received_at' \
                   AND table = ?";
    let mut columns: Vec<String> = engine.sql().query(columns).bind(table).fetch_one().await.unwrap();
    let mut named: Vec<_> = expected.iter().map(|(column, _)| (*column).to_owned()).collect();
    let text = |column: &String| {
        if TIMES.contains(&column.as_str()) {
            format!("toString(toUnixTimestamp64Milli({column}))")
        } else {
            format!("ifNull(toString({column}), 'NULL')")
        }
    };
    let texts: Vec<_> = named.iter().map(text).collect();
    let row = format!("SELECT [{}] FROM {table} WHERE {of_row}", texts.join(", "));
    let row: Vec<String> = engine.sql().query_raw(&row).fetch_one().await.unwrap();
    for ((column, expected), got) in expected.iter().zip(row) {
        assert_eq!(got, *expected, "{table}.{column}");
    }
    named.sort();
    columns.sort();
    assert_eq!(named, columns, "every column of {table}");
}

fn columns<const N: usize>(texts: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
    texts.map(|(column, text)| (column, text.to_owned())).to_vec()
}

const ID: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";

fn full_sample(time_ms: i64) -> v1::ProcessSample {
    v1::ProcessSample {
        process_id: (0..16).collect(),
        exec_generation: 3,
        pid: 4_000_000_000,
        parent_pid: 7,
        start_boottime_ns: u64::MAX,
        start_time: Some(timestamp(time_ms - 1_234)),
        name: "näme\\x0a".to_owned(),
        uid: 65_534,
        container_id: "abc".to_owned(),
        kernel_thread: true,
        exited: true,
        first_seen: true,
        cpu_time_ns: u64::MAX,
        cpu_time_ns_delta: 17,
        rss_bytes: None,
        peak_rss_bytes: Some(0),
        lifetime_peak_rss_bytes: Some(99),
        threads: 5,
        runqueue_ns_delta: Some(1),
        voluntary_switches_delta: None,
        involuntary_switches_delta: Some(2),
        minor_faults_delta: Some(3),
        major_faults_delta: None,
        source: v1::Source::Proc.into(),
        user_time_ns_delta: Some(11),
        system_time_ns_delta: Some(6),
        ended_threads_cpu_time_ns_delta: Some(0),
        runqueue_waits_delta: Some(12),
        rss_anon_bytes: Some(13),
        rss_file_bytes: None,
        rss_shmem_bytes: Some(14),
        swap_bytes: Some(15),
        virtual_bytes: Some(1 << 47),
        open_file_descriptors: Some(16),
        open_file_descriptor_limit: Some(u64::MAX),
        read_bytes_delta: Some(18),
        written_bytes_delta: Some(19),
        read_operations_delta: Some(20),
        write_operations_delta: Some(21),
        disk_read_bytes_delta: Some(22),
        disk_written_bytes_delta: Some(23),
        state: "D".to_owned(),
        namespace_pid: Some(24),
        parent_start_boottime_ns: 25,
        cgroup_id: 26,
        runqueue_wait_counts: vec![27, 0, 28],
        pod_uid: "p-1".to_owned(),
    }
}

fn full_exit(time_ms: i64) -> v1::ProcessExit {
    v1::ProcessExit {
        process_id: (0..16).collect(),
        exec_generation: 1,
        pid: 2,
        parent_pid: 3,
        start_boottime_ns: 4,
        start_time: Some(timestamp(time_ms - 1_234)),
        end_time: Some(timestamp(time_ms - 1)),
        name: "sh".to_owned(),
        uid: 5,
        container_id: "abc".to_owned(),
        lifetime_ns: 6,
        cpu_time_ns: 7,
        peak_rss_bytes: Some(8),
        exit_code: Some(9),
        exit_signal: None,
        oom_killed: Some(true),
        runqueue_ns: Some(10),
        voluntary_switches: Some(11),
        involuntary_switches: Some(12),
        minor_faults: Some(13),
        major_faults: Some(14),
        exe: "/bin/sh".to_owned(),
        source: v1::Source::EbpfQuiet.into(),
        user_time_ns: Some(15),
        system_time_ns: Some(16),
        runqueue_waits: Some(17),
        read_bytes: Some(18),
        written_bytes: Some(19),
        read_operations: Some(20),
        write_operations: Some(21),
        disk_read_bytes: Some(22),
        disk_written_bytes: None,
        namespace_pid: Some(23),
        parent_start_boottime_ns: 24,
        pod_uid: "p-1".to_owned(),
    }
}

fn full_cost() -> v1::AgentCost {
    let program = |name: &str, runs| v1::ProgramCost {
        name: name.to_owned(),
        runs,
        run_ns: runs * 100,
    };
    v1::AgentCost {
        cpu_time_ns_delta: 1,
        rss_bytes: 2,
        drain_ns: 3,
        events: 4,
        queue_len: 5,
        programs: vec![program("sched_switch", 6), program("rss\tstat", 0)],
        attach_ns: Some(7),
        kernel_ppm: Some(8),
        kernel_budget_ppm: Some(9),
    }
}

#[tokio::test]
async fn every_column_comes_back_as_it_was_sent() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let time_ms = now_ms() - 5_000;
    let info = v1::ProcessInfo {
        process_id: (0..16).collect(),
        exec_generation: 1,
        pid: 2,
        parent_pid: 3,
        start_boottime_ns: 4,
        start_time: Some(timestamp(time_ms - 1_234)),
        name: "sh".to_owned(),
        exe: "/bin/sh".to_owned(),
        cmdline: "sh -c 'a\tb'".to_owned(),
        uid: 5,
        cgroup: "/x".to_owned(),
        container_id: "abc".to_owned(),
        kernel_thread: true,
        pod_uid: "p-1".to_owned(),
    };
    let whole = v1::Snapshot {
        host: "hö\\x00st".to_owned(),
        boot_id: vec![9; 16],
        time: Some(timestamp(time_ms)),
        interval_ns: 1_000_000_001,
        source: v1::Source::Ebpf.into(),
        samples: vec![full_sample(time_ms), sample(2, "b", 1, 1)],
        exits: vec![full_exit(time_ms)],
        processes: vec![info],
        audit: Some(v1::HostAudit {
            cpus: 2,
            wall_ns: 1,
            process_ns: 2,
            kthread_ns: 3,
            idle_ns: 4,
            iowait_ns: Some(5),
            irq_ns: None,
            softirq_ns: Some(6),
            steal_ns: None,
            interrupts_in_tasks: true,
            residual_ns: -5,
            lost_events: 7,
            torn_reads: 8,
        }),
        host_info: Some(v1::HostInfo {
            agent_version: "0.1.0".to_owned(),
            kernel_release: "6.18".to_owned(),
            architecture: "x86_64".to_owned(),
            cpus: 3,
            memory_total_bytes: 4,
            memory_available_bytes: Some(5),
            processes: 6,
            threads: 7,
        }),
        losses: vec![v1::Loss {
            reason: "ring_full".to_owned(),
            count: 4,
        }],
        agent_cost: Some(full_cost()),
    };
    push(&collector, &[Agent::new(1).freeze(&whole)]).await.unwrap();

    let mut of_snapshot = columns([
        ("agent_id", "01010101-0101-0101-0101-010101010101"),
        ("epoch", "1001"),
        ("seq", "1"),
        ("host", "hö\\x00st"),
    ]);
    of_snapshot.push(("time", time_ms.to_string()));
    let of_process = [
        of_snapshot.clone(),
        columns([("process_id", ID), ("container_id", "abc"), ("pod_uid", "p-1")]),
    ]
    .concat();
    let started = ("start_time", (time_ms - 1_234).to_string());

    let row = columns([
        ("interval_ns", "1000000001"),
        ("exec_generation", "3"),
        ("pid", "4000000000"),
        ("parent_pid", "7"),
        ("start_boottime_ns", "18446744073709551615"),
        ("name", "näme\\x0a"),
        ("uid", "65534"),
        ("kernel_thread", "true"),
        ("exited", "true"),
        ("first_seen", "true"),
        ("cpu_time_ns", "18446744073709551615"),
        ("cpu_time_ns_delta", "17"),
        ("rss_bytes", "NULL"),
        ("peak_rss_bytes", "0"),
        ("lifetime_peak_rss_bytes", "99"),
        ("threads", "5"),
        ("runqueue_ns_delta", "1"),
        ("voluntary_switches_delta", "NULL"),
        ("involuntary_switches_delta", "2"),
        ("minor_faults_delta", "3"),
        ("major_faults_delta", "NULL"),
        ("source", "proc"),
        ("user_time_ns_delta", "11"),
        ("system_time_ns_delta", "6"),
        ("ended_threads_cpu_time_ns_delta", "0"),
        ("runqueue_waits_delta", "12"),
        ("runqueue_wait_counts", "[27,0,28]"),
        ("rss_anon_bytes", "13"),
        ("rss_file_bytes", "NULL"),
        ("rss_shmem_bytes", "14"),
        ("swap_bytes", "15"),
        ("virtual_bytes", "140737488355328"),
        ("open_file_descriptors", "16"),
        ("open_file_descriptor_limit", "18446744073709551615"),
        ("read_bytes_delta", "18"),
        ("written_bytes_delta", "19"),
        ("read_operations_delta", "20"),
        ("write_operations_delta", "21"),
        ("disk_read_bytes_delta", "22"),
        ("disk_written_bytes_delta", "23"),
        ("state", "D"),
        ("namespace_pid", "24"),
        ("parent_start_boottime_ns", "25"),
        ("cgroup_id", "26"),
    ]);
    let sample = [of_process.clone(), vec![started.clone()], row].concat();
    check(&engine, "process_samples", "pid = 4000000000", &sample).await;

    let identity = columns([
        ("exec_generation", "1"),
        ("pid", "2"),
        ("parent_pid", "3"),
        ("start_boottime_ns", "4"),
        ("name", "sh"),
        ("exe", "/bin/sh"),
        ("uid", "5"),
    ]);
    let identity = [of_process, vec![started], identity].concat();
    let mut row = columns([
        ("lifetime_ns", "6"),
        ("cpu_time_ns", "7"),
        ("peak_rss_bytes", "8"),
        ("exit_code", "9"),
        ("exit_signal", "NULL"),
        ("oom_killed", "true"),
        ("runqueue_ns", "10"),
        ("voluntary_switches", "11"),
        ("involuntary_switches", "12"),
        ("minor_faults", "13"),
        ("major_faults", "14"),
        ("source", "ebpf_quiet"),
        ("user_time_ns", "15"),
        ("system_time_ns", "16"),
        ("runqueue_waits", "17"),
        ("read_bytes", "18"),
        ("written_bytes", "19"),
        ("read_operations", "20"),
        ("write_operations", "21"),
        ("disk_read_bytes", "22"),
        ("disk_written_bytes", "NULL"),
        ("namespace_pid", "23"),
        ("parent_start_boottime_ns", "24"),
    ]);
    row.push(("end_time", (time_ms - 1).to_string()));
    check(&engine, "process_exits", "1", &[identity.clone(), row].concat()).await;

    let row = columns([
        ("cmdline", "sh -c 'a\\x09b'"),
        ("cgroup", "/x"),
        ("kernel_thread", "true"),
    ]);
    check(&engine, "processes", "1", &[identity, row].concat()).await;

    let row = columns([
        ("boot_id", "09090909-0909-0909-0909-090909090909"),
        ("interval_ns", "1000000001"),
        ("source", "ebpf"),
        ("sources", "['ebpf','ebpf_quiet','proc']"),
        ("samples", "2"),
        ("exits", "1"),
        ("cpus", "2"),
        ("wall_ns", "1"),
        ("process_ns", "2"),
        ("kthread_ns", "3"),
        ("idle_ns", "4"),
        ("iowait_ns", "5"),
        ("irq_ns", "NULL"),
        ("softirq_ns", "6"),
        ("steal_ns", "NULL"),
        ("interrupts_in_tasks", "true"),
        ("residual_ns", "-5"),
        ("lost_events", "7"),
        ("torn_reads", "8"),
        ("agent_version", "0.1.0"),
        ("kernel_release", "6.18"),
        ("architecture", "x86_64"),
        ("memory_total_bytes", "4"),
        ("memory_available_bytes", "5"),
        ("processes", "6"),
        ("threads", "7"),
        ("agent_cpu_time_ns_delta", "1"),
        ("agent_rss_bytes", "2"),
        ("agent_drain_ns", "3"),
        ("agent_events", "4"),
        ("agent_queue_len", "5"),
        ("kernel_ppm", "8"),
        ("kernel_budget_ppm", "9"),
        ("attach_ns", "7"),
        ("program_names", "['sched_switch','rss\\\\x09stat']"),
        ("program_runs", "[6,0]"),
        ("program_run_ns", "[600,0]"),
        ("losses", "{'ring_full':4}"),
    ]);
    check(&engine, "host_samples", "1", &[of_snapshot, row].concat()).await;
    collector.stop().await;
}

/// An agent from before these fields sends rows without them: they are stored, and what it did not say is not known.
#[tokio::test]
async fn what_an_older_agent_does_not_say_is_null() {
    let engine = Engine::start();
    let collector = Collector::start(&engine).await;
    let time_ms = now_ms() - 5_000;
    let old = v1::Snapshot {
        exits: vec![v1::ProcessExit {
            process_id: vec![3; 16],
            pid: 3,
            end_time: Some(timestamp(time_ms - 1)),
            ..v1::ProcessExit::default()
        }],
        agent_cost: Some(v1::AgentCost::default()),
        ..snapshot("h", time_ms, vec![sample(1, "a", 1, 1)])
    };
    push(&collector, &[Agent::new(1).freeze(&old)]).await.unwrap();
    for (table, columns, expected) in [
        (
            "process_samples",
            "user_time_ns_delta, runqueue_waits_delta, rss_anon_bytes, open_file_descriptors, read_bytes_delta, state, \
             parent_start_boottime_ns, cgroup_id, runqueue_wait_counts, source",
            "(NULL,NULL,NULL,NULL,NULL,'',NULL,NULL,[],'ebpf')",
        ),
        (
            "process_exits",
            "user_time_ns, runqueue_waits, disk_read_bytes, namespace_pid, parent_start_boottime_ns, source",
            "(NULL,NULL,NULL,NULL,NULL,'ebpf')",
        ),
        (
            "host_samples",
            "kernel_ppm, kernel_budget_ppm, attach_ns, program_names, program_runs, sources, agent_events",
            "(NULL,NULL,NULL,[],[],['ebpf'],0)",
        ),
    ] {
        let row = format!("SELECT ({columns}) FROM {table}");
        assert_eq!(engine.text(&row).await, expected, "{table}");
    }
    collector.stop().await;
}
