-- Snapshots: where nothing coarser is exact.
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
        )
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
