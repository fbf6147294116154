-- As 0024, and the pod.
-- Processes that ended in a range, short-lived ones too, with the figures of ListProcessExits. Snapshots that brought them are
-- looked for where the exits say, because `time` may lie outside the range of end times.
CREATE OR REPLACE VIEW exited_processes AS
WITH
    (
        SELECT tuple(min(x.time), max(x.time))
        FROM process_exits AS x
        WHERE x.end_time >= {start:DateTime64(3, 'UTC')} AND x.end_time < {end:DateTime64(3, 'UTC')}
            AND ({host:String} = '' OR x.host = {host:String})
    ) AS brought
SELECT
    e.end_time AS end_time,
    e.host AS host,
    e.name AS name,
    e.pid AS pid,
    e.process_id AS process_id,
    e.start_time AS start_time,
    e.lifetime_ns / 1e9 AS lifetime_seconds,
    e.cpu_time_ns / 1e9 AS cpu_seconds,
    e.peak_rss_bytes / 1048576 AS peak_memory_mb,
    e.exit_code AS exit_code,
    e.exit_signal AS exit_signal,
    e.oom_killed AS oom_killed,
    ifNull(e.exit_code, 0) != 0 OR e.exit_signal IS NOT NULL AS failed,
    e.container_id AS container_id,
    e.pod_uid AS pod_uid,
    e.exe AS exe
FROM process_exits AS e
WHERE e.end_time >= {start:DateTime64(3, 'UTC')} AND e.end_time < {end:DateTime64(3, 'UTC')}
    AND ({host:String} = '' OR e.host = {host:String})
    AND cityHash64(e.host) + toUnixTimestamp64Milli(e.time) IN
    (
        SELECT cityHash64(h.host) + toUnixTimestamp64Milli(h.time)
        FROM host_samples AS h
        WHERE h.time >= brought.1 AND h.time <= brought.2
            AND ({host:String} = '' OR h.host = {host:String})
    )
COMMENT 'Processes that ended in a range: exited_processes(host = ''h'' or '''', start = …, end = …)'
