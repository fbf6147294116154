-- `found`: the exits that a question means, on all of its pages. exits.sql and exits_total.sql come after this text.
-- Only what complete snapshots brought: their row in host_samples is written last. They are looked for where the exits
-- say, because `time` may lie outside the range of end times.
WITH
    (
        SELECT tuple(min(e.time), max(e.time))
        FROM process_exits AS e
        WHERE e.end_time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
            AND e.end_time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            AND toStartOfHour(e.end_time) >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
            AND toStartOfHour(e.end_time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
            AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
    ) AS brought,
    complete AS
    (
        SELECT cityHash64(h.host) + toUnixTimestamp64Milli(h.time) AS snapshot, agent_id, epoch, boot_id
        FROM host_samples AS h
        WHERE h.time >= brought.1
            AND h.time <= brought.2
            AND toStartOfHour(h.time) >= toStartOfHour(brought.1)
            AND toStartOfHour(h.time) <= toStartOfHour(brought.2)
            AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
    ),
    found AS
    (
        SELECT *
        FROM process_exits AS e
        WHERE e.end_time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
            AND e.end_time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            AND toStartOfHour(e.end_time) >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
            AND toStartOfHour(e.end_time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
            AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
            AND cityHash64(e.host) + toUnixTimestamp64Milli(e.time) IN (SELECT snapshot FROM complete)
            AND (empty({name:String}) OR e.name = {name:String})
            AND (empty({process_id:String}) OR process_id = toUUIDOrZero({process_id:String}))
            AND ({max_lifetime_ns:UInt64} = 0 OR lifetime_ns <= {max_lifetime_ns:UInt64})
            AND (NOT {failed:Bool} OR ifNull(exit_code, 0) != 0 OR exit_signal IS NOT NULL)
    )
