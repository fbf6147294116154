-- As 0021, and the pod.
-- What each process used in a range, with the figures of ListTopProcesses. `host` is '' for all hosts; the range is
-- (start, end] by the ends of intervals. Only snapshots that are stored whole count, as in every answer.
CREATE OR REPLACE VIEW top_processes AS
WITH snapshots AS
(
    SELECT h.host AS host, h.time AS time, h.interval_ns AS interval_ns
    FROM host_samples AS h
    WHERE h.time > {start:DateTime64(3, 'UTC')} AND h.time <= {end:DateTime64(3, 'UTC')}
        AND ({host:String} = '' OR h.host = {host:String})
),
observed AS
(
    SELECT host, sum(interval_ns) AS observed_ns
    FROM snapshots
    GROUP BY host
)
SELECT
    p.host AS host,
    p.process_id AS process_id,
    p.last_name AS name,
    p.last_pid AS pid,
    p.last_uid AS uid,
    p.last_container_id AS container_id,
    p.last_pod_uid AS pod_uid,
    p.cpu_ns / o.observed_ns * 100 AS avg_cpu_percent,
    p.cpu_ns / 1e9 AS cpu_seconds,
    if(p.is_kernel_thread, NULL, p.rss_byte_ns / o.observed_ns / 1048576) AS avg_memory_mb,
    p.peak_bytes / 1048576 AS peak_memory_mb,
    p.runqueue_ns / 1e9 AS runqueue_seconds,
    p.disk_read AS disk_read_bytes,
    p.disk_written AS disk_written_bytes,
    p.minor AS minor_faults,
    p.major AS major_faults,
    p.voluntary AS voluntary_switches,
    p.involuntary AS involuntary_switches,
    p.has_exited AS exited,
    p.last_time AS last_time
FROM
(
    SELECT
        s.host AS host,
        s.process_id AS process_id,
        argMax(s.name, s.time) AS last_name,
        argMax(s.pid, s.time) AS last_pid,
        argMax(s.uid, s.time) AS last_uid,
        argMax(s.container_id, s.time) AS last_container_id,
        argMax(s.pod_uid, s.time) AS last_pod_uid,
        argMax(s.kernel_thread, s.time) AS is_kernel_thread,
        max(s.exited) AS has_exited,
        sum(s.cpu_time_ns_delta) AS cpu_ns,
        ifNull(sum(toUInt128(s.rss_bytes) * s.interval_ns), 0) AS rss_byte_ns,
        max(s.peak_rss_bytes) AS peak_bytes,
        sum(s.runqueue_ns_delta) AS runqueue_ns,
        sum(s.disk_read_bytes_delta) AS disk_read,
        sum(s.disk_written_bytes_delta) AS disk_written,
        sum(s.minor_faults_delta) AS minor,
        sum(s.major_faults_delta) AS major,
        sum(s.voluntary_switches_delta) AS voluntary,
        sum(s.involuntary_switches_delta) AS involuntary,
        max(s.time) AS last_time
    FROM process_samples AS s
    WHERE s.time > {start:DateTime64(3, 'UTC')} AND s.time <= {end:DateTime64(3, 'UTC')}
        AND ({host:String} = '' OR s.host = {host:String})
        AND cityHash64(s.host) + toUnixTimestamp64Milli(s.time) IN (SELECT cityHash64(host) + toUnixTimestamp64Milli(time) FROM snapshots)
    GROUP BY host, process_id
) AS p
INNER JOIN observed AS o ON p.host = o.host
COMMENT 'What each process used in a range: top_processes(host = ''h'' or '''', start = …, end = …)'
