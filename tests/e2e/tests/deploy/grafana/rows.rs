//! What the dashboards look at: one host with three processes, a row a second in one range, a row a minute in the other.

use super::expand::Range;
use crate::store::Store;

/// The process that uses most.
pub(super) const HOG: &str = "00000000-0000-0000-0000-000000000003";

/// Fills all tables. Process N uses N x 100 ms of CPU in each second and holds N MB; another one ends in each.
pub(super) fn fill(store: &Store) {
    let (samples, minutes) = (Range::samples(), Range::minutes());
    fill_samples(store, samples);
    fill_minutes(store, minutes);
    for range in [samples, minutes] {
        fill_exits(store, range);
    }
    store.write(&format!(
        "INSERT INTO processes (host, time, process_id, pid, name, exe)
        SELECT 'it\\'s', toDateTime64({}, 3), toUUID('{HOG}'), 3, 'p3', '/usr/bin/p3'",
        samples.start
    ));
}

fn silence(range: Range, unit: i64) -> String {
    let silence = range.silence();
    format!("{} AND {}", silence.start / unit, silence.end / unit - 1)
}

fn fill_samples(store: &Store, range: Range) {
    let start = range.start;
    store.write(&format!(
        "INSERT INTO host_samples (agent_id, epoch, seq, host, boot_id, time, interval_ns, source, samples, exits, cpus,
            wall_ns, process_ns, kthread_ns, idle_ns, iowait_ns, residual_ns, lost_events, torn_reads, losses,
            memory_total_bytes, memory_available_bytes, processes, threads, agent_cpu_time_ns_delta, agent_rss_bytes,
            agent_drain_ns, kernel_ppm, program_names, program_runs, program_run_ns)
        SELECT toUUID('00000000-0000-0000-0000-000000000001'), 1, number, 'it\\'s', generateUUIDv4(),
            fromUnixTimestamp64Milli(toInt64(({start} + number) * 1000 + 500)), 1000000000, 'ebpf', 3, 1, 2,
            2000000000, 600000000, 200000000, 1100000000, 98000000, 2000000, if(number % 60 = 0, 1, 0), 0, map('full', 0),
            8 * 1024 * 1024 * 1024, 6 * 1024 * 1024 * 1024, 100, 200, 10000000, 20000000,
            1000000, if(number % 2 = 0, 300, 500), ['sched_switch'], [1000], [50000]
        FROM numbers({}) WHERE number NOT BETWEEN {}",
        range.seconds(),
        silence(range, 1),
    ));
    store.write(
        "INSERT INTO process_samples (agent_id, epoch, seq, host, time, interval_ns, process_id, pid, start_time, name,
            uid, container_id, cpu_time_ns_delta, user_time_ns_delta, system_time_ns_delta, rss_bytes, peak_rss_bytes,
            threads, runqueue_ns_delta, voluntary_switches_delta, involuntary_switches_delta, minor_faults_delta,
            major_faults_delta, disk_read_bytes_delta, disk_written_bytes_delta, read_bytes_delta, written_bytes_delta,
            open_file_descriptors, source)
        SELECT agent_id, 1, seq, host, time, interval_ns,
            toUUID(concat('00000000-0000-0000-0000-00000000000', toString(nr))), nr, time, concat('p', toString(nr)),
            1000 + nr, concat('c', toString(nr)), nr * 100000000, nr * 50000000, nr * 50000000, nr * 1000000, nr * 1000000,
            1, 50000000, 5, 6, 7,
            8, 1000, 1000, 2000, 2000, 9, 'ebpf'
        FROM host_samples CROSS JOIN (SELECT number + 1 AS nr FROM numbers(3)) AS processes",
    );
}

fn fill_minutes(store: &Store, range: Range) {
    let start = range.start;
    store.write(&format!(
        "INSERT INTO host_samples_1m (host, window, version, time, observed_ns, longest_interval_ns, samples, exits, cpus,
            wall_ns, process_ns, kthread_ns, idle_ns, iowait_ns, residual_ns, lost_events, torn_reads, losses,
            memory_total_bytes, memory_available_byte_ns, memory_available_known_ns, processes, threads,
            agent_cpu_time_ns_delta, agent_rss_bytes, agent_drain_ns, kernel_ppm_ns, kernel_ppm_known_ns,
            program_runs, program_run_ns)
        SELECT 'it\\'s', toDateTime({start} + number * 60), version, toDateTime64({start} + (number + 1) * 60, 3),
            60 * s, s, 180, 60, 2,
            120 * s, 36 * s, 12 * s, 66 * s, intDiv(588 * s, 100), intDiv(12 * s, 100), 1, 0, map('full', 0),
            8 * 1024 * 1024 * 1024, toUInt128(6 * 1024 * 1024 * 1024) * 60 * s, 60 * s, 100, 200,
            intDiv(60 * s, 100), 20000000, intDiv(60 * s, 1000), toUInt128(400) * 60 * s, 60 * s,
            map('sched_switch', 60000), map('sched_switch', 3000000)
        FROM (SELECT toInt64(1000000000) AS s, number FROM numbers({})) AS minutes
        -- Computed twice: the greatest version counts.
        CROSS JOIN (SELECT number + 59 AS version FROM numbers(2)) AS versions
        WHERE number NOT BETWEEN {}",
        range.seconds() / 60,
        silence(range, 60),
    ));
    store.write(
        "INSERT INTO process_samples_1m (host, window, version, process_id, name, pid, uid, container_id, time, snapshots,
            interval_ns, alive_ns, start_time, source, cpu_time_ns_delta, user_time_ns_delta, system_time_ns_delta,
            runqueue_ns_delta, voluntary_switches_delta, involuntary_switches_delta, minor_faults_delta, major_faults_delta,
            read_bytes_delta, written_bytes_delta, disk_read_bytes_delta, disk_written_bytes_delta,
            rss_bytes, rss_byte_ns, rss_known_ns, peak_rss_bytes, threads, open_file_descriptors)
        SELECT host, window, version, toUUID(concat('00000000-0000-0000-0000-00000000000', toString(nr))),
            concat('p', toString(nr)), nr, 1000 + nr, concat('c', toString(nr)), time, 60,
            observed_ns, observed_ns, time, 'ebpf', nr * 6000000000, nr * 3000000000, nr * 3000000000,
            3000000000, 300, 360, 420, 480,
            120000, 120000, 60000, 60000,
            nr * 1000000, toUInt128(nr * 1000000) * observed_ns, observed_ns, nr * 1000000, 1, 9
        FROM host_samples_1m CROSS JOIN (SELECT number + 1 AS nr FROM numbers(3)) AS processes",
    );
}

fn fill_exits(store: &Store, range: Range) {
    let start = range.start;
    let columns = "agent_id, epoch, seq, host, time, process_id, pid, start_time, end_time, name, lifetime_ns, \
         cpu_time_ns, exit_code, exit_signal, oom_killed, source";
    let agent = "toUUID('00000000-0000-0000-0000-000000000001'), 1";
    store.write(&format!(
        "INSERT INTO process_exits ({columns})
        SELECT {agent}, number, 'it\\'s', ended, generateUUIDv4(), 9, ended, ended, 'short', 5000000,
            4000000, if(number % 2 = 0, 0, NULL), if(number % 2 = 0, NULL, 9), number % 2 = 1, 'ebpf'
        FROM
        (
            SELECT number, fromUnixTimestamp64Milli(toInt64(({start} + number) * 1000 + 500)) AS ended
            FROM numbers({})
            WHERE number NOT BETWEEN {}
        )",
        range.seconds(),
        silence(range, 1),
    ));
    store.write(&format!(
        "INSERT INTO process_exits ({columns})
        SELECT {agent}, 0, 'it\\'s', fromUnixTimestamp64Milli(toInt64({start} * 1000 + 500)), toUUID('{HOG}'), 3,
            toDateTime64({start}, 3), fromUnixTimestamp64Milli(toInt64({start} * 1000 + 500)), 'p3', 600000000000,
            1, 0, NULL, false, 'ebpf'"
    ));
}
