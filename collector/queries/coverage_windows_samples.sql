-- Samples, and what shortly before the range tells that a host was there.
    SELECT
        host,
        toUnixTimestamp64Milli(r.time) - intDiv(toInt64(interval_ns), 1000000) AS begin_ms,
        if(r.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'), interval_ns, 0) AS inside_ns,
        if(r.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'), toUnixTimestamp64Milli(r.time), 0) AS inside_ms,
        interval_ns AS usual_ns,
        if(r.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'), losses, map()::Map(String, UInt64)) AS losses,
        if(r.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'), arrayConcat([toString(r.source)], r.sources), []) AS ways
    FROM host_samples AS r
    WHERE (
            (r.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({head_ms:Int64}, 'UTC')
                AND toStartOfHour(r.time) >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')) AND toStartOfHour(r.time) <= toStartOfHour(fromUnixTimestamp64Milli({head_ms:Int64}, 'UTC')))
            OR (r.time > fromUnixTimestamp64Milli({tail_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
                AND toStartOfHour(r.time) >= toStartOfHour(fromUnixTimestamp64Milli({tail_ms:Int64}, 'UTC')) AND toStartOfHour(r.time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')))
            OR (r.time > fromUnixTimestamp64Milli({stale_from_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({stale_to_ms:Int64}, 'UTC')
                AND toStartOfHour(r.time) >= toStartOfHour(fromUnixTimestamp64Milli({stale_from_ms:Int64}, 'UTC')) AND toStartOfHour(r.time) <= toStartOfHour(fromUnixTimestamp64Milli({stale_to_ms:Int64}, 'UTC'))
                AND (cityHash64(r.host) + toUnixTimestamp(toStartOfMinute(subtractMilliseconds(r.time, 1))) IN (SELECT arrayJoin({stale_minutes:Array(UInt64)}))
                    OR cityHash64(r.host) + toUnixTimestamp(toStartOfHour(subtractMilliseconds(r.time, 1))) IN (SELECT arrayJoin({stale_hours:Array(UInt64)}))))
            OR (r.time > fromUnixTimestamp64Milli({before_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
                AND toStartOfHour(r.time) >= toStartOfHour(fromUnixTimestamp64Milli({before_ms:Int64}, 'UTC')) AND toStartOfHour(r.time) <= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')))
        )
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
