-- Minutes of hosts, where the range has whole ones.
    FROM host_samples_1m AS r FINAL
    WHERE (
            (r.window >= toDateTime(intDiv({head_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC'))
            OR (r.window >= toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({tail_ms:Int64}, 1000), 'UTC'))
        )
        AND cityHash64(r.host) + toUnixTimestamp(r.window) NOT IN (SELECT arrayJoin({stale_minutes:Array(UInt64)}))
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
