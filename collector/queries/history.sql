-- One process, or all processes of one name on one host, over time: a row for each step of which something is known.
-- Intervals that end within the range are told, as in every answer, so that the steps add up to what a top says. One that
-- spans two steps is divided between them by time, so that no step seems empty because a drain came a moment late; what of
-- the first one lies before the range goes to its first step.
-- A snapshot counts once its row in host_samples exists: that is written last, and until then its time is not observed.
-- `known` says whether the host was observed, `seen` whether the process had a row.
WITH
    {step_ms:Int64} * 1000000 AS step_ns,
    notEmpty({process_id:String}) AS one_process,
    snapshots AS
    (
        SELECT time, interval_ns
        FROM host_samples AS h
        WHERE h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
            AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            AND toStartOfHour(h.time) >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
            AND toStartOfHour(h.time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
            AND host = {host:String}
    ),
    hosts AS
    (
        SELECT
            1000000 * (toUnixTimestamp64Milli(h.time) - {start_ms:Int64}) AS end_ns,
            greatest(end_ns - toInt64(interval_ns), 0) AS begin_ns,
            arrayJoin(range(
                toUInt64(intDiv(begin_ns, step_ns)),
                toUInt64(intDiv(end_ns - 1, step_ns) + 1)
            )) AS step,
            least(end_ns, toInt64(step + 1) * step_ns) - greatest(begin_ns, toInt64(step) * step_ns) AS part_ns,
            interval_ns * (part_ns / (end_ns - begin_ns)) AS inside_ns
        FROM snapshots AS h
    ),
    observed AS
    (
        SELECT step, sum(inside_ns) AS observed_ns
        FROM hosts
        GROUP BY step
    ),
    instants AS
    (
        SELECT
            s.time AS instant,
            any(s.interval_ns) AS interval_ns,
            sum(s.cpu_time_ns_delta) AS cpu_ns,
            sum(toFloat64(ifNull(s.rss_bytes, 0))) AS rss_bytes,
            min(s.kernel_thread) AS kernel_only,
            sum(s.peak_rss_bytes) AS peak_bytes,
            countIf(NOT s.exited) AS alive,
            sum(s.runqueue_ns_delta) AS runqueue_ns,
            sumIf(s.threads, NOT s.exited) AS threads_now,
            max(s.cpu_time_ns) AS cpu_time_ns,
            sum(s.user_time_ns_delta) AS user_ns,
            sum(s.system_time_ns_delta) AS system_ns,
            sum(s.runqueue_waits_delta) AS waits,
            sum(s.read_bytes_delta) AS bytes_read,
            sum(s.written_bytes_delta) AS bytes_written,
            sum(s.read_operations_delta) AS reads,
            sum(s.write_operations_delta) AS writes,
            sum(s.disk_read_bytes_delta) AS disk_read,
            sum(s.disk_written_bytes_delta) AS disk_written,
            sum(s.open_file_descriptors) AS descriptors,
            -- Of many processes these say nothing, and are NULL in the end.
            max(s.exec_generation) AS generation,
            max(s.cgroup_id) AS cgroup,
            max(s.lifetime_peak_rss_bytes) AS lifetime_peak,
            sum(s.ended_threads_cpu_time_ns_delta) AS ended_threads_ns,
            sumForEach(s.runqueue_wait_counts) AS wait_counts
        FROM process_samples AS s
        WHERE s.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
            AND s.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            AND toStartOfHour(s.time) >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
            AND toStartOfHour(s.time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
            AND host = {host:String}
            AND toUnixTimestamp64Milli(s.time) IN (SELECT toUnixTimestamp64Milli(time) FROM snapshots)
            AND (empty({process_id:String}) OR process_id = toUUIDOrZero({process_id:String}))
            AND (empty({name:String}) OR s.name = {name:String})
        GROUP BY instant
    ),
    parts AS
    (
        SELECT
            *,
            1000000 * (toUnixTimestamp64Milli(instant) - {start_ms:Int64}) AS end_ns,
            greatest(end_ns - toInt64(interval_ns), 0) AS begin_ns,
            arrayJoin(range(
                toUInt64(intDiv(begin_ns, step_ns)),
                toUInt64(intDiv(end_ns - 1, step_ns) + 1)
            )) AS step,
            least(end_ns, toInt64(step + 1) * step_ns) - greatest(begin_ns, toInt64(step) * step_ns) AS part_ns,
            part_ns / (end_ns - begin_ns) AS share,
            interval_ns * share AS inside_ns,
            end_ns <= toInt64(step + 1) * step_ns AS ends_here
        FROM instants
    ),
    used AS
    (
        SELECT
            step,
            sum(cpu_ns * share) AS cpu_ns,
            sum(rss_bytes * inside_ns) AS rss_byte_ns,
            min(kernel_only) AS kernel_only,
            max(peak_bytes) AS peak_bytes,
            sum(alive * inside_ns) AS alive_ns,
            sum(runqueue_ns * share) AS runqueue_ns,
            argMaxOrNullIf(threads_now, instant, ends_here) AS threads_now,
            argMaxOrNullIf(cpu_time_ns, instant, ends_here) AS cpu_time_ns,
            sum(user_ns * share) AS user_ns,
            sum(system_ns * share) AS system_ns,
            sum(waits * share) AS waits,
            sum(bytes_read * share) AS bytes_read,
            sum(bytes_written * share) AS bytes_written,
            sum(reads * share) AS reads,
            sum(writes * share) AS writes,
            sum(disk_read * share) AS disk_read,
            sum(disk_written * share) AS disk_written,
            max(descriptors) AS peak_descriptors,
            argMaxOrNullIf(generation, instant, ends_here) AS generation,
            argMaxIf(tuple(cgroup), instant, ends_here).1 AS cgroup,
            argMaxIf(tuple(lifetime_peak), instant, ends_here).1 AS lifetime_peak,
            sum(ended_threads_ns * share) AS ended_threads_ns,
            sumForEach(arrayMap(waits -> waits * share, wait_counts)) AS wait_counts
        FROM parts
        GROUP BY step
    )
SELECT
    o.step AS step,
    ifNull(u.present, 0) AS seen,
    ifNull(u.cpu_ns, 0) / o.observed_ns * 100 AS avg_cpu_percent,
    ifNull(u.cpu_ns, 0) / 1e9 AS cpu_seconds,
    if(u.kernel_only = 1, NULL, ifNull(u.rss_byte_ns, 0) / o.observed_ns / 1048576) AS avg_memory_mb,
    u.peak_bytes / 1048576 AS peak_memory_mb,
    ifNull(u.alive_ns, 0) / o.observed_ns AS avg_num_procs,
    u.runqueue_ns / 1e9 AS runqueue_seconds,
    toUInt32(u.threads_now) AS threads,
    if(one_process, u.cpu_time_ns, NULL) AS cpu_time_ns,
    u.user_ns / o.observed_ns * 100 AS avg_user_percent,
    u.system_ns / o.observed_ns * 100 AS avg_system_percent,
    toUInt64(round(u.waits)) AS runqueue_waits,
    toUInt64(round(u.bytes_read)) AS read_bytes,
    toUInt64(round(u.bytes_written)) AS written_bytes,
    toUInt64(round(u.reads)) AS read_operations,
    toUInt64(round(u.writes)) AS write_operations,
    toUInt64(round(u.disk_read)) AS disk_read_bytes,
    toUInt64(round(u.disk_written)) AS disk_written_bytes,
    u.peak_descriptors AS peak_open_file_descriptors,
    if(one_process, u.generation, NULL) AS exec_generation,
    if(one_process, u.cgroup, NULL) AS cgroup_id,
    if(one_process, u.lifetime_peak, NULL) AS lifetime_peak_rss_bytes,
    u.ended_threads_ns / 1e9 AS ended_threads_cpu_seconds,
    arrayMap(waits -> toUInt64(round(waits)), u.wait_counts) AS runqueue_wait_counts
FROM observed AS o
LEFT JOIN (SELECT *, 1 AS present FROM used) AS u ON o.step = u.step
ORDER BY step
SETTINGS join_use_nulls = 1
