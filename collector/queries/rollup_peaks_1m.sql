-- Computes the peaks of groups in minutes, from the rows that rollup_processes_1m.sql reads.
INSERT INTO group_peaks_1m (host, window, version, group_by, key, peak_rss_bytes, open_file_descriptors)
WITH windows AS
(
    SELECT w.1 AS host, toDateTime(w.2, 'UTC') AS window, w.3 AS version
    FROM (SELECT arrayJoin(arrayZip({hosts:Array(String)}, {windows:Array(UInt32)}, {versions:Array(UInt64)})) AS w)
)
SELECT
    s.host,
    s.minute,
    any(w.version),
    s.grouping,
    s.key,
    max(s.peak),
    max(s.descriptors)
FROM
(
    SELECT
        host,
        toDateTime(toStartOfMinute(subtractMilliseconds(r.time, 1)), 'UTC') AS minute,
        g.1 AS grouping,
        g.2 AS key,
        sum(r.peak_rss_bytes) AS peak,
        sum(r.open_file_descriptors) AS descriptors
    FROM process_samples AS r
    ARRAY JOIN
    [
        ('command', toString(r.name)),
        ('container', toString(r.container_id)),
        ('pod', toString(r.pod_uid)),
        ('user', toString(r.uid)),
        ('host', toString(r.host))
    ] AS g
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
    GROUP BY host, r.time, grouping, key
) AS s
INNER JOIN windows AS w ON s.host = w.host AND s.minute = w.window
GROUP BY s.host, s.minute, s.grouping, s.key
SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 10000000, min_insert_block_size_bytes = 0
