-- Hours of processes, where the range has whole ones.
        alive_ns,
        rss_byte_ns,
        toDateTime64(window, 3, 'UTC') AS instant,
        false AS sampled
    FROM process_samples_1h AS r FINAL
    WHERE r.window >= toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC')
        AND cityHash64(r.host) + toUnixTimestamp(r.window) NOT IN (SELECT arrayJoin({stale_hours:Array(UInt64)}))
