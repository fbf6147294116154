-- One process over time, a row for each step in which it had samples; `step` is in seconds. An interval counts where it
-- ends, which GetProcessHistory divides between steps by time.
CREATE VIEW IF NOT EXISTS process_history AS
SELECT
    fromUnixTimestamp64Milli(intDiv(toUnixTimestamp64Milli(s.time) - 1, {step:UInt32} * 1000) * {step:UInt32} * 1000, 'UTC') AS time,
    any(s.host) AS host,
    argMax(s.name, s.time) AS name,
    sum(s.cpu_time_ns_delta) / sum(s.interval_ns) * 100 AS avg_cpu_percent,
    sum(s.cpu_time_ns_delta) / 1e9 AS cpu_seconds,
    sum(toUInt128(s.rss_bytes) * s.interval_ns) / sum(s.interval_ns) / 1048576 AS avg_memory_mb,
    max(s.peak_rss_bytes) / 1048576 AS peak_memory_mb,
    sum(s.runqueue_ns_delta) / 1e9 AS runqueue_seconds,
    argMax(s.threads, s.time) AS threads,
    sum(s.disk_read_bytes_delta) AS disk_read_bytes,
    sum(s.disk_written_bytes_delta) AS disk_written_bytes,
    max(s.exited) AS exited
FROM process_samples AS s
WHERE s.process_id = {process_id:UUID}
    AND s.time > {start:DateTime64(3, 'UTC')} AND s.time <= {end:DateTime64(3, 'UTC')}
    AND cityHash64(s.host) + toUnixTimestamp64Milli(s.time) IN
    (
        SELECT cityHash64(h.host) + toUnixTimestamp64Milli(h.time)
        FROM host_samples AS h
        WHERE h.time > {start:DateTime64(3, 'UTC')} AND h.time <= {end:DateTime64(3, 'UTC')}
            AND h.host IN
            (
                SELECT r.host
                FROM process_samples AS r
                WHERE r.process_id = {process_id:UUID}
                    AND r.time > {start:DateTime64(3, 'UTC')} AND r.time <= {end:DateTime64(3, 'UTC')}
            )
    )
GROUP BY time
ORDER BY time
COMMENT 'One process over time: process_history(process_id = ''…'', start = …, end = …, step = seconds)'
