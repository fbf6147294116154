-- Computes minutes of hosts, all of one day: one block, so they come at once or not at all. `versions` were counted before this began,
-- so that each snapshot that is counted is seen here with all its rows; one that came between may be seen in part, and
-- makes its minute one to be computed again. Only complete snapshots count.
-- What is the last of its window is kept as one value: an argMax for each costs half as much again.
INSERT INTO process_samples_1m
(
    host,
    window,
    version,
    process_id,
    exec_generation,
    name,
    pid,
    uid,
    container_id,
    pod_uid,
    time,
    snapshots,
    interval_ns,
    alive_ns,
    parent_pid,
    parent_start_boottime_ns,
    start_boottime_ns,
    start_time,
    namespace_pid,
    cgroup_id,
    kernel_thread,
    exited,
    first_seen,
    source,
    state,
    cpu_time_ns,
    cpu_time_ns_delta,
    user_time_ns_delta,
    system_time_ns_delta,
    ended_threads_cpu_time_ns_delta,
    runqueue_ns_delta,
    runqueue_waits_delta,
    voluntary_switches_delta,
    involuntary_switches_delta,
    minor_faults_delta,
    major_faults_delta,
    read_bytes_delta,
    written_bytes_delta,
    read_operations_delta,
    write_operations_delta,
    disk_read_bytes_delta,
    disk_written_bytes_delta,
    runqueue_wait_counts,
    rss_bytes,
    rss_byte_ns,
    rss_known_ns,
    rss_anon_bytes,
    rss_anon_byte_ns,
    rss_anon_known_ns,
    rss_file_bytes,
    rss_file_byte_ns,
    rss_file_known_ns,
    rss_shmem_bytes,
    rss_shmem_byte_ns,
    rss_shmem_known_ns,
    swap_bytes,
    swap_byte_ns,
    swap_known_ns,
    virtual_bytes,
    virtual_byte_ns,
    virtual_known_ns,
    peak_rss_bytes,
    lifetime_peak_rss_bytes,
    threads,
    threads_max,
    open_file_descriptors,
    open_file_descriptor_limit
)
WITH windows AS
(
    SELECT w.1 AS host, toDateTime(w.2, 'UTC') AS window, w.3 AS version
    FROM (SELECT arrayJoin(arrayZip({hosts:Array(String)}, {windows:Array(UInt32)}, {versions:Array(UInt64)})) AS w)
)
SELECT
    s.host,
    s.minute,
    any(w.version),
    s.process_id,
    s.exec_generation,
    s.name,
    s.pid,
    s.uid,
    s.container_id,
    s.pod_uid,
    max(s.time),
    count(),
    sum(s.interval_ns),
    sumIf(s.interval_ns, NOT s.exited),
    (argMax(tuple(s.parent_pid, s.parent_start_boottime_ns, s.start_boottime_ns, s.start_time, s.namespace_pid, s.cgroup_id, s.state, s.cpu_time_ns, s.rss_bytes, s.rss_anon_bytes, s.rss_file_bytes, s.rss_shmem_bytes, s.swap_bytes, s.virtual_bytes, s.threads, s.open_file_descriptor_limit), s.time) AS last).1,
    last.2,
    last.3,
    last.4,
    last.5,
    last.6,
    max(s.kernel_thread),
    max(s.exited),
    max(s.first_seen),
    if(min(s.source) = max(s.source), min(s.source), 'mixed'),
    last.7,
    last.8,
    sum(s.cpu_time_ns_delta),
    sum(s.user_time_ns_delta),
    sum(s.system_time_ns_delta),
    sum(s.ended_threads_cpu_time_ns_delta),
    sum(s.runqueue_ns_delta),
    sum(s.runqueue_waits_delta),
    sum(s.voluntary_switches_delta),
    sum(s.involuntary_switches_delta),
    sum(s.minor_faults_delta),
    sum(s.major_faults_delta),
    sum(s.read_bytes_delta),
    sum(s.written_bytes_delta),
    sum(s.read_operations_delta),
    sum(s.write_operations_delta),
    sum(s.disk_read_bytes_delta),
    sum(s.disk_written_bytes_delta),
    sumForEach(s.runqueue_wait_counts),
    last.9,
    sum(toUInt128(s.rss_bytes) * s.interval_ns),
    sumIf(s.interval_ns, isNotNull(s.rss_bytes)),
    last.10,
    sum(toUInt128(s.rss_anon_bytes) * s.interval_ns),
    sumIf(s.interval_ns, isNotNull(s.rss_anon_bytes)),
    last.11,
    sum(toUInt128(s.rss_file_bytes) * s.interval_ns),
    sumIf(s.interval_ns, isNotNull(s.rss_file_bytes)),
    last.12,
    sum(toUInt128(s.rss_shmem_bytes) * s.interval_ns),
    sumIf(s.interval_ns, isNotNull(s.rss_shmem_bytes)),
    last.13,
    sum(toUInt128(s.swap_bytes) * s.interval_ns),
    sumIf(s.interval_ns, isNotNull(s.swap_bytes)),
    last.14,
    sum(toUInt128(s.virtual_bytes) * s.interval_ns),
    sumIf(s.interval_ns, isNotNull(s.virtual_bytes)),
    max(s.peak_rss_bytes),
    max(s.lifetime_peak_rss_bytes),
    last.15,
    max(s.threads),
    max(s.open_file_descriptors),
    last.16
FROM
(
    SELECT *, toDateTime(toStartOfMinute(subtractMilliseconds(r.time, 1)), 'UTC') AS minute
    FROM process_samples AS r
    WHERE r.time > fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
        AND r.time <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
        AND toStartOfHour(r.time) >= toStartOfHour(fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC'))
        AND toStartOfHour(r.time) <= toStartOfHour(fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC'))
        AND r.host IN {hosts:Array(String)}
        AND (agent_id, epoch, seq) IN
        (
            SELECT agent_id, epoch, seq
            FROM host_samples AS h
            WHERE h.time > fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
                AND h.time <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
                AND toStartOfHour(h.time) >= toStartOfHour(fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC'))
                AND toStartOfHour(h.time) <= toStartOfHour(fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC'))
                AND h.host IN {hosts:Array(String)}
        )
) AS s
INNER JOIN windows AS w ON s.host = w.host AND s.minute = w.window
GROUP BY s.host, s.minute, s.process_id, s.exec_generation, s.name, s.pid, s.uid, s.container_id, s.pod_uid
SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 10000000, min_insert_block_size_bytes = 0
