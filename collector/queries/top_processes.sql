-- The processes that used most of something. One process lives on one host, so its share is its CPU time over the time
-- that its host observed. A sum or maximum of NULLs stays NULL: not known is not zero.
-- First the winners by the one figure that ranks, then everything else for these few: their rows lie side by side and
-- are found by their index. On 14 M rows that is ten times faster than all figures for all processes.
-- Comes after top_samples.sql and before top_ranked.sql.
winners AS
(
    SELECT r.process_id AS process_id
    FROM
    (
        SELECT
            process_id,
            any(host) AS ran_on,
            sum(s.cpu_time_ns_delta) AS cpu_ns,
            if({metric:String} = 'peak_memory', toUInt128(ifNull(max(s.peak_rss_bytes), 0)), sum(s.score)) AS score
        FROM samples AS s
        GROUP BY process_id
    ) AS r
    INNER JOIN observed AS o ON r.ran_on = o.host
    ORDER BY
        if({metric:String} IN ('cpu', 'memory'), r.score / o.observed_ns, toFloat64(r.score)) DESC,
        r.cpu_ns / o.observed_ns DESC,
        r.process_id
    LIMIT {limit:UInt64}
),
used AS
(
    SELECT
        host,
        process_id,
        argMax(s.name, s.time) AS last_name,
        argMax(s.pid, s.time) AS last_pid,
        argMax(s.parent_pid, s.time) AS last_parent_pid,
        argMax(s.start_time, s.time) AS last_start_time,
        argMax(s.uid, s.time) AS last_uid,
        argMax(s.container_id, s.time) AS last_container_id,
        argMax(s.kernel_thread, s.time) AS is_kernel_thread,
        max(s.exited) AS has_exited,
        sum(s.cpu_time_ns_delta) AS cpu_ns,
        argMax(s.cpu_time_ns, s.time) AS last_cpu_time_ns,
        ifNull(sum(s.rss_byte_ns), 0) AS rss_byte_ns,
        max(s.peak_rss_bytes) AS peak_bytes,
        sum(s.alive_ns) AS alive_ns,
        sum(s.runqueue_ns_delta) AS runqueue_ns,
        sum(s.voluntary_switches_delta) AS voluntary,
        sum(s.involuntary_switches_delta) AS involuntary,
        sum(s.minor_faults_delta) AS minor,
        sum(s.major_faults_delta) AS major,
        argMax(s.threads, s.time) AS last_threads,
        max(s.time) AS last_seen,
        argMax(tuple(s.rss_bytes), s.time).1 AS last_rss_bytes,
        sum(s.user_time_ns_delta) AS user_ns,
        sum(s.system_time_ns_delta) AS system_ns,
        sum(s.runqueue_waits_delta) AS waits,
        sum(s.read_bytes_delta) AS bytes_read,
        sum(s.written_bytes_delta) AS bytes_written,
        sum(s.read_operations_delta) AS reads,
        sum(s.write_operations_delta) AS writes,
        sum(s.disk_read_bytes_delta) AS disk_read,
        sum(s.disk_written_bytes_delta) AS disk_written,
        argMax(tuple(s.rss_anon_bytes, s.rss_file_bytes, s.rss_shmem_bytes), s.time) AS last_rss_parts,
        argMax(tuple(s.swap_bytes, s.virtual_bytes), s.time) AS last_sizes,
        max(s.open_file_descriptors) AS peak_descriptors,
        argMax(tuple(s.open_file_descriptor_limit), s.time).1 AS last_descriptor_limit,
        argMax(s.state, s.time) AS last_state,
        argMax(tuple(s.namespace_pid), s.time).1 AS last_namespace_pid,
        argMax(s.start_boottime_ns, s.time) AS last_start_boottime_ns,
        argMax(s.exec_generation, s.time) AS last_exec_generation,
        argMax(tuple(s.parent_start_boottime_ns), s.time).1 AS last_parent_start,
        argMax(tuple(s.cgroup_id), s.time).1 AS last_cgroup_id,
        -- It only grows until the next exec.
        argMax(s.lifetime_peak_rss_bytes, (s.exec_generation, s.lifetime_peak_rss_bytes)) AS last_lifetime_peak,
        sum(s.ended_threads_cpu_time_ns_delta) AS ended_threads_ns,
        sumForEach(s.runqueue_wait_counts) AS wait_counts,
        if(min(s.source) = max(s.source), toString(min(s.source)), 'mixed') AS measured
    FROM samples AS s
    WHERE process_id IN (SELECT process_id FROM winners)
    GROUP BY host, process_id
)
SELECT
    toString(u.last_name) AS name,
    [toString(u.host)] AS member_hosts,
    toNullable(toString(u.process_id)) AS process_id,
    toNullable(u.last_pid) AS pid,
    toNullable(u.last_parent_pid) AS parent_pid,
    toNullable(toUnixTimestamp64Milli(u.last_start_time)) AS start_time_ms,
    toNullable(u.last_uid) AS uid,
    toNullable(toString(u.last_container_id)) AS container_id,
    toNullable(u.is_kernel_thread) AS kernel_thread,
    toNullable(u.has_exited) AS exited,
    toNullable(u.last_cpu_time_ns) AS cpu_time_ns,
    u.last_descriptor_limit AS open_file_descriptor_limit,
    nullIf(toString(u.last_state), '') AS state,
    u.last_namespace_pid AS namespace_pid,
    u.cpu_ns / o.observed_ns * 100 AS avg_cpu_percent,
    u.cpu_ns / 1e9 AS cpu_seconds,
    if(u.is_kernel_thread, NULL, u.rss_byte_ns / o.observed_ns / 1048576) AS avg_memory_mb,
    u.peak_bytes / 1048576 AS peak_memory_mb,
    u.alive_ns / o.observed_ns AS avg_num_procs,
    u.runqueue_ns / 1e9 AS runqueue_seconds,
    u.voluntary AS voluntary_switches,
    u.involuntary AS involuntary_switches,
    u.minor AS minor_faults,
    u.major AS major_faults,
    u.last_threads AS threads,
    toUnixTimestamp64Milli(u.last_seen) AS last_time_ms,
    u.last_rss_bytes AS rss_bytes,
    u.user_ns / 1e9 AS user_cpu_seconds,
    u.system_ns / 1e9 AS system_cpu_seconds,
    u.waits AS runqueue_waits,
    u.bytes_read AS read_bytes,
    u.bytes_written AS written_bytes,
    u.reads AS read_operations,
    u.writes AS write_operations,
    u.disk_read AS disk_read_bytes,
    u.disk_written AS disk_written_bytes,
    u.last_rss_parts.1 AS rss_anon_bytes,
    u.last_rss_parts.2 AS rss_file_bytes,
    u.last_rss_parts.3 AS rss_shmem_bytes,
    u.last_sizes.1 AS swap_bytes,
    u.last_sizes.2 AS virtual_bytes,
    toUInt64(u.peak_descriptors) AS peak_open_file_descriptors,
    u.measured AS source,
    -- Looked up for the winners: boot_ids.sql.
    NULL::Nullable(String) AS boot_id,
    toNullable(u.last_start_boottime_ns) AS start_boottime_ns,
    toNullable(u.last_exec_generation) AS exec_generation,
    u.last_parent_start AS parent_start_boottime_ns,
    u.last_cgroup_id AS cgroup_id,
    u.last_lifetime_peak AS lifetime_peak_rss_bytes,
    u.ended_threads_ns / 1e9 AS ended_threads_cpu_seconds,
    u.wait_counts AS runqueue_wait_counts
FROM used AS u
INNER JOIN observed AS o ON u.host = o.host
