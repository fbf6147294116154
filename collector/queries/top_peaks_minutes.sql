-- Minutes of groups, where the range has whole ones.
        SELECT toString(host) AS host, toString(key) AS key, peak_rss_bytes AS peak_bytes, open_file_descriptors AS descriptors
        FROM group_peaks_1m AS r FINAL
        WHERE (
            (r.window >= toDateTime(intDiv({head_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC'))
            OR (r.window >= toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({tail_ms:Int64}, 1000), 'UTC'))
        )
        AND cityHash64(r.host) + toUnixTimestamp(r.window) NOT IN (SELECT arrayJoin({stale_minutes:Array(UInt64)}))
            AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
            AND r.group_by = {group_by:String}
