-- What all processes of a name used in a range, on each host, with the figures of ListTopProcesses by command. Add up the
-- hosts, never average them.
CREATE VIEW IF NOT EXISTS top_commands AS
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
    c.host AS host,
    c.name AS name,
    c.cpu_ns / o.observed_ns * 100 AS avg_cpu_percent,
    c.cpu_ns / 1e9 AS cpu_seconds,
    if(c.kernel_only, NULL, c.rss_byte_ns / o.observed_ns / 1048576) AS avg_memory_mb,
    c.peak_bytes / 1048576 AS peak_memory_mb,
    c.alive_ns / o.observed_ns AS avg_num_procs,
    c.runqueue_ns / 1e9 AS runqueue_seconds,
    c.disk_read AS disk_read_bytes,
    c.disk_written AS disk_written_bytes
FROM
(
    SELECT
        i.host AS host,
        i.name AS name,
        min(i.kernel_only) AS kernel_only,
        sum(i.cpu_ns) AS cpu_ns,
        ifNull(sum(i.rss_byte_ns), 0) AS rss_byte_ns,
        max(i.peak_bytes) AS peak_bytes,
        sum(i.alive_ns) AS alive_ns,
        sum(i.runqueue_ns) AS runqueue_ns,
        sum(i.disk_read) AS disk_read,
        sum(i.disk_written) AS disk_written
    FROM
    (
        SELECT
            s.host AS host,
            s.name AS name,
            min(s.kernel_thread) AS kernel_only,
            sum(s.cpu_time_ns_delta) AS cpu_ns,
            sum(toUInt128(s.rss_bytes) * s.interval_ns) AS rss_byte_ns,
            sum(s.peak_rss_bytes) AS peak_bytes,
            sumIf(s.interval_ns, NOT s.exited) AS alive_ns,
            sum(s.runqueue_ns_delta) AS runqueue_ns,
            sum(s.disk_read_bytes_delta) AS disk_read,
            sum(s.disk_written_bytes_delta) AS disk_written
        FROM process_samples AS s
        WHERE s.time > {start:DateTime64(3, 'UTC')} AND s.time <= {end:DateTime64(3, 'UTC')}
            AND ({host:String} = '' OR s.host = {host:String})
            AND cityHash64(s.host) + toUnixTimestamp64Milli(s.time) IN (SELECT cityHash64(host) + toUnixTimestamp64Milli(time) FROM snapshots)
        GROUP BY host, name, s.time
    ) AS i
    GROUP BY host, name
) AS c
INNER JOIN observed AS o ON c.host = o.host
COMMENT 'What all processes of a name used in a range, a row for each host: top_commands(host = ''h'' or '''', start = …, end = …)'
