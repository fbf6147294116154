-- Hours, where the range has whole ones; HOURS is the table: of processes, or of groups.
        alive_ns,
        rss_byte_ns,
        toDateTime64(window, 3, 'UTC') AS instant
    FROM HOURS AS r FINAL
    WHERE r.window >= toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC')
        AND cityHash64(r.host) + toUnixTimestamp(r.window) NOT IN (SELECT arrayJoin({stale_hours:Array(UInt64)}))
