-- As 0023, with the steps of GetProcessHistory: they begin at `start`, and an interval that spans two is divided between
-- them by time; what of the first one lies before `start` goes to its first step. `step` is in seconds.
CREATE OR REPLACE VIEW process_history AS
WITH
    toInt64({step:UInt32}) * 1000000000 AS step_ns,
    snapshots AS
    (
        SELECT h.host AS host, h.time AS time
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
SELECT
    fromUnixTimestamp64Milli(toUnixTimestamp64Milli({start:DateTime64(3, 'UTC')}) + toInt64(p.step) * {step:UInt32} * 1000, 'UTC') AS time,
    any(p.host) AS host,
    argMax(p.name, p.instant) AS name,
    sum(p.cpu_time_ns_delta * p.share) / sum(p.inside_ns) * 100 AS avg_cpu_percent,
    sum(p.cpu_time_ns_delta * p.share) / 1e9 AS cpu_seconds,
    sum(p.rss_bytes * p.inside_ns) / sum(p.inside_ns) / 1048576 AS avg_memory_mb,
    max(p.peak_rss_bytes) / 1048576 AS peak_memory_mb,
    sum(p.runqueue_ns_delta * p.share) / 1e9 AS runqueue_seconds,
    argMaxOrNullIf(p.threads, p.instant, p.ends_here) AS threads,
    toUInt64(round(sum(p.disk_read_bytes_delta * p.share))) AS disk_read_bytes,
    toUInt64(round(sum(p.disk_written_bytes_delta * p.share))) AS disk_written_bytes,
    max(p.exited AND p.ends_here) AS exited
FROM
(
    SELECT
        s.*,
        s.time AS instant,
        1000000 * (toUnixTimestamp64Milli(s.time) - toUnixTimestamp64Milli({start:DateTime64(3, 'UTC')})) AS end_ns,
        greatest(end_ns - toInt64(s.interval_ns), 0) AS begin_ns,
        arrayJoin(range(toUInt64(intDiv(begin_ns, step_ns)), toUInt64(intDiv(end_ns - 1, step_ns) + 1))) AS step,
        least(end_ns, toInt64(step + 1) * step_ns) - greatest(begin_ns, toInt64(step) * step_ns) AS part_ns,
        part_ns / (end_ns - begin_ns) AS share,
        s.interval_ns * share AS inside_ns,
        end_ns <= toInt64(step + 1) * step_ns AS ends_here
    FROM process_samples AS s
    WHERE s.process_id = {process_id:UUID}
        AND s.time > {start:DateTime64(3, 'UTC')} AND s.time <= {end:DateTime64(3, 'UTC')}
        AND cityHash64(s.host) + toUnixTimestamp64Milli(s.time) IN (SELECT cityHash64(host) + toUnixTimestamp64Milli(time) FROM snapshots)
) AS p
GROUP BY p.step
ORDER BY time
COMMENT 'One process over time: process_history(process_id = ''…'', start = …, end = …, step = seconds)'
