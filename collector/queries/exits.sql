-- Processes that ended, newest first. Pages go by key, not by offset: what arrives meanwhile moves nothing.
-- Only what complete snapshots brought: their row in host_samples is written last. They are looked for where the exits
-- say, because `time` may lie outside the range of end times.
WITH
    (
        SELECT tuple(min(e.time), max(e.time))
        FROM process_exits AS e
        WHERE e.end_time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
            AND e.end_time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
    ) AS brought,
    complete AS
    (
        SELECT cityHash64(h.host) + toUnixTimestamp64Milli(h.time) AS snapshot
        FROM host_samples AS h
        WHERE h.time >= brought.1
            AND h.time <= brought.2
            AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
    )
SELECT
    toString(process_id) AS id,
    exec_generation,
    toString(host) AS host_name,
    toString(e.name) AS command,
    pid,
    parent_pid,
    uid,
    toUnixTimestamp64Milli(e.start_time) AS start_time_ms,
    toUnixTimestamp64Milli(e.end_time) AS end_time_ms,
    lifetime_ns,
    cpu_time_ns,
    peak_rss_bytes,
    exit_code,
    exit_signal,
    oom_killed,
    toString(e.container_id) AS container,
    runqueue_ns,
    voluntary_switches,
    involuntary_switches,
    minor_faults,
    major_faults,
    exe
FROM process_exits AS e
WHERE e.end_time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND e.end_time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
    AND cityHash64(e.host) + toUnixTimestamp64Milli(e.time) IN (SELECT snapshot FROM complete)
    AND (empty({name:String}) OR e.name = {name:String})
    AND (empty({process_id:String}) OR process_id = toUUIDOrZero({process_id:String}))
    AND ({max_lifetime_ns:UInt64} = 0 OR lifetime_ns <= {max_lifetime_ns:UInt64})
    AND (NOT {failed:Bool} OR ifNull(exit_code, 0) != 0 OR exit_signal IS NOT NULL)
    AND ({before_id:String} = ''
        OR (toUnixTimestamp64Milli(e.end_time), id) < ({before_ms:Int64}, {before_id:String}))
ORDER BY e.end_time DESC, id DESC
LIMIT {limit:UInt64}
