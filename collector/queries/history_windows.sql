-- The same as history.sql where samples are gone: from minutes or hours, in steps that are whole ones. A step is what ended
-- within it. What all processes of a name had at one time at most was stored; their threads were not.
WITH
    notEmpty({process_id:String}) AS one_process,
    observed AS
    (
        SELECT intDiv(toInt64(toUnixTimestamp(s.window)) * 1000 - {start_ms:Int64}, {step_ms:Int64}) AS step, sum(s.observed_ns) AS observed_ns
        FROM {host_table:Identifier} AS s FINAL
        WHERE s.window >= toDateTime(intDiv({start_ms:Int64}, 1000), 'UTC') AND s.window < toDateTime(intDiv({end_ms:Int64}, 1000), 'UTC') AND s.host = {host:String}
        GROUP BY step
    ),
    peaks AS
    (
        SELECT intDiv(toInt64(toUnixTimestamp(s.window)) * 1000 - {start_ms:Int64}, {step_ms:Int64}) AS step, max(s.peak_rss_bytes) AS peak_bytes, max(s.open_file_descriptors) AS descriptors
        FROM {peak_table:Identifier} AS s FINAL
        WHERE s.window >= toDateTime(intDiv({start_ms:Int64}, 1000), 'UTC') AND s.window < toDateTime(intDiv({end_ms:Int64}, 1000), 'UTC') AND s.host = {host:String}
            AND s.group_by = 'command'
            AND s.key = {name:String}
        GROUP BY step
    ),
    used AS
    (
        SELECT
            intDiv(toInt64(toUnixTimestamp(s.window)) * 1000 - {start_ms:Int64}, {step_ms:Int64}) AS step,
            sum(s.cpu_time_ns_delta) AS cpu_ns,
            sum(s.rss_byte_ns) AS rss_byte_ns,
            sum(s.alive_ns) AS alive_ns,
            sum(s.runqueue_ns_delta) AS runqueue_ns,
            sum(s.user_time_ns_delta) AS user_ns,
            sum(s.system_time_ns_delta) AS system_ns,
            sum(s.runqueue_waits_delta) AS waits,
            sum(s.read_bytes_delta) AS bytes_read,
            sum(s.written_bytes_delta) AS bytes_written,
            sum(s.read_operations_delta) AS reads,
            sum(s.write_operations_delta) AS writes,
            sum(s.disk_read_bytes_delta) AS disk_read,
            sum(s.disk_written_bytes_delta) AS disk_written,
            sum(s.ended_threads_cpu_time_ns_delta) AS ended_threads_ns,
            min(s.kernel_thread) AS kernel_only,
            max(s.peak_rss_bytes) AS peak_bytes,
            max(s.open_file_descriptors) AS descriptors,
            argMax(s.threads, s.time) AS threads_now,
            argMax(s.cpu_time_ns, s.time) AS cpu_time_ns,
            max(s.exec_generation) AS generation,
            argMax(tuple(s.cgroup_id), s.time).1 AS cgroup,
            argMax(s.lifetime_peak_rss_bytes, (s.exec_generation, s.lifetime_peak_rss_bytes)) AS lifetime_peak,
            sumForEach(s.runqueue_wait_counts) AS wait_counts
        FROM {process_table:Identifier} AS s FINAL
        WHERE s.window >= toDateTime(intDiv({start_ms:Int64}, 1000), 'UTC') AND s.window < toDateTime(intDiv({end_ms:Int64}, 1000), 'UTC') AND s.host = {host:String}
            AND (empty({process_id:String}) OR s.process_id = toUUIDOrZero({process_id:String}))
            AND (empty({name:String}) OR s.name = {name:String})
        GROUP BY step
    )
SELECT
    toUInt64(o.step) AS step,
    ifNull(u.present, 0) AS seen,
    ifNull(u.cpu_ns, 0) / o.observed_ns * 100 AS avg_cpu_percent,
    ifNull(u.cpu_ns, 0) / 1e9 AS cpu_seconds,
    if(u.kernel_only = 1, NULL, ifNull(u.rss_byte_ns, 0) / o.observed_ns / 1048576) AS avg_memory_mb,
    if(one_process, u.peak_bytes, k.peak_bytes) / 1048576 AS peak_memory_mb,
    ifNull(u.alive_ns, 0) / o.observed_ns AS avg_num_procs,
    u.runqueue_ns / 1e9 AS runqueue_seconds,
    if(one_process, u.threads_now, NULL) AS threads,
    if(one_process, u.cpu_time_ns, NULL) AS cpu_time_ns,
    u.user_ns / o.observed_ns * 100 AS avg_user_percent,
    u.system_ns / o.observed_ns * 100 AS avg_system_percent,
    u.waits AS runqueue_waits,
    u.bytes_read AS read_bytes,
    u.bytes_written AS written_bytes,
    u.reads AS read_operations,
    u.writes AS write_operations,
    u.disk_read AS disk_read_bytes,
    u.disk_written AS disk_written_bytes,
    toUInt64(if(one_process, u.descriptors, k.descriptors)) AS peak_open_file_descriptors,
    if(one_process, u.generation, NULL) AS exec_generation,
    if(one_process, u.cgroup, NULL) AS cgroup_id,
    if(one_process, u.lifetime_peak, NULL) AS lifetime_peak_rss_bytes,
    u.ended_threads_ns / 1e9 AS ended_threads_cpu_seconds,
    u.wait_counts AS runqueue_wait_counts
FROM observed AS o
LEFT JOIN (SELECT *, 1 AS present FROM used) AS u ON o.step = u.step
LEFT JOIN peaks AS k ON o.step = k.step
ORDER BY step
SETTINGS join_use_nulls = 1
