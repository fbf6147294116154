-- `observed`: how long each host was, and its newest instant. `samples`: the rows that count, of an interval, a minute or
-- an hour of a process each, with its `score` in the figure that ranks.
-- A range is cut in five: samples up to `head_ms`, minutes up to `hours_from_ms`, hours up to `hours_to_ms`, minutes up to
-- `tail_ms`, samples up to the end. Minutes and hours that were computed of fewer snapshots than there are (windows.sql)
-- are read from the samples. Every sum is one of integers, so it is the same whichever table it came from.
-- A snapshot counts once its row in host_samples exists: that is written last, and until then its time is not observed.
-- Host and time as one number name it: on 14 M rows a fifth more CPU, where (epoch, seq) takes up to three times as long.
-- top_groups.sql or top_processes.sql come after this text, and top_ranked.sql after them.
WITH snapshots AS
(
    SELECT host, time, interval_ns
    FROM host_samples AS r
    WHERE (
            (r.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({head_ms:Int64}, 'UTC'))
            OR (r.time > fromUnixTimestamp64Milli({tail_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
            OR (r.time > fromUnixTimestamp64Milli({stale_from_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({stale_to_ms:Int64}, 'UTC')
                AND (cityHash64(r.host) + toUnixTimestamp(toStartOfMinute(subtractMilliseconds(r.time, 1))) IN (SELECT arrayJoin({stale_minutes:Array(UInt64)}))
                    OR cityHash64(r.host) + toUnixTimestamp(toStartOfHour(subtractMilliseconds(r.time, 1))) IN (SELECT arrayJoin({stale_hours:Array(UInt64)}))))
        )
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
),
observed AS
(
    SELECT host, sum(o.observed_ns) AS observed_ns, max(o.time) AS newest
    FROM
    (
        SELECT host, time, interval_ns AS observed_ns
        FROM snapshots
