-- Hours of hosts, where the range has whole ones.
    FROM host_samples_1h AS r FINAL
    WHERE r.window >= toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC')
        AND cityHash64(r.host) + toUnixTimestamp(r.window) NOT IN (SELECT arrayJoin({stale_hours:Array(UInt64)}))
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
