-- Computes the sums of groups in minutes or hours, GROUPS, from the rows of PROCESSES that rollup_processes_1m.sql or _1h
-- wrote, or that another computation, which saw more, wrote since: then its sums win, too.
-- Members of one instant are added first: those of the group's last one are what it has now.
INSERT INTO GROUPS
(
    host,
    window,
    version,
    group_by,
    key,
    time,
    alive_ns,
    kernel_thread,
    source,
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
    rss_byte_ns,
    threads,
    rss_bytes,
    rss_anon_bytes,
    rss_file_bytes,
    rss_shmem_bytes,
    swap_bytes,
    virtual_bytes
)
WITH windows AS
(
    SELECT w.1 AS host, toDateTime(w.2, 'UTC') AS window, w.3 AS version
    FROM (SELECT arrayJoin(arrayZip({hosts:Array(String)}, {windows:Array(UInt32)}, {versions:Array(UInt64)})) AS w)
)
SELECT
    s.host,
    s.window,
    any(w.version),
    s.grouping,
    s.key,
    max(s.time),
    sum(s.alive_ns),
    min(s.kernel_thread),
    if(min(s.least_source) = max(s.greatest_source), min(s.least_source), 'mixed'),
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
    sum(s.rss_byte_ns),
    (argMax(tuple(s.threads, s.rss_bytes, s.rss_anon_bytes, s.rss_file_bytes, s.rss_shmem_bytes, s.swap_bytes, s.virtual_bytes), s.time) AS last).1,
    last.2,
    last.3,
    last.4,
    last.5,
    last.6,
    last.7
FROM
(
    SELECT
        r.host AS host,
        r.window AS window,
        g.1 AS grouping,
        g.2 AS key,
        r.time AS time,
        sum(r.alive_ns) AS alive_ns,
        min(r.kernel_thread) AS kernel_thread,
        min(r.source) AS least_source,
        max(r.source) AS greatest_source,
        sum(r.cpu_time_ns_delta) AS cpu_time_ns_delta,
        sum(r.user_time_ns_delta) AS user_time_ns_delta,
        sum(r.system_time_ns_delta) AS system_time_ns_delta,
        sum(r.ended_threads_cpu_time_ns_delta) AS ended_threads_cpu_time_ns_delta,
        sum(r.runqueue_ns_delta) AS runqueue_ns_delta,
        sum(r.runqueue_waits_delta) AS runqueue_waits_delta,
        sum(r.voluntary_switches_delta) AS voluntary_switches_delta,
        sum(r.involuntary_switches_delta) AS involuntary_switches_delta,
        sum(r.minor_faults_delta) AS minor_faults_delta,
        sum(r.major_faults_delta) AS major_faults_delta,
        sum(r.read_bytes_delta) AS read_bytes_delta,
        sum(r.written_bytes_delta) AS written_bytes_delta,
        sum(r.read_operations_delta) AS read_operations_delta,
        sum(r.write_operations_delta) AS write_operations_delta,
        sum(r.disk_read_bytes_delta) AS disk_read_bytes_delta,
        sum(r.disk_written_bytes_delta) AS disk_written_bytes_delta,
        sumForEach(r.runqueue_wait_counts) AS runqueue_wait_counts,
        sum(r.rss_byte_ns) AS rss_byte_ns,
        sumIf(r.threads, NOT r.exited) AS threads,
        sum(r.rss_bytes) AS rss_bytes,
        sum(r.rss_anon_bytes) AS rss_anon_bytes,
        sum(r.rss_file_bytes) AS rss_file_bytes,
        sum(r.rss_shmem_bytes) AS rss_shmem_bytes,
        sum(r.swap_bytes) AS swap_bytes,
        sum(r.virtual_bytes) AS virtual_bytes
    FROM PROCESSES AS r FINAL
    ARRAY JOIN
    [
        ('command', toString(r.name)),
        ('container', toString(r.container_id)),
        ('pod', toString(r.pod_uid)),
        ('user', toString(r.uid)),
        ('host', toString(r.host))
    ] AS g
    WHERE r.window >= toDateTime(intDiv({from_ms:Int64}, 1000), 'UTC')
        AND r.window < toDateTime(intDiv({to_ms:Int64}, 1000), 'UTC')
        AND r.host IN {hosts:Array(String)}
    GROUP BY host, window, grouping, key, time
) AS s
INNER JOIN windows AS w ON s.host = w.host AND s.window = w.window
GROUP BY s.host, s.window, s.grouping, s.key
SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 10000000, min_insert_block_size_bytes = 0
