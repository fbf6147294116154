-- The peaks of all that matches as one group, which nobody stored: from the samples at each instant of the whole range, and of
-- them only what a peak needs, whatever the sums are read from.
SELECT a.host AS ran_on, max(a.peak_bytes) AS peak_bytes, max(a.descriptors) AS peak_descriptors
FROM
(
    SELECT toString(r.host) AS host, sum(r.peak_rss_bytes) AS peak_bytes, sum(r.open_file_descriptors) AS descriptors
    FROM process_samples AS r
    WHERE r.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND toStartOfHour(r.time) >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
        AND toStartOfHour(r.time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
        AND cityHash64(r.host) + toUnixTimestamp64Milli(r.time) IN
        (
            SELECT cityHash64(h.host) + toUnixTimestamp64Milli(h.time)
            FROM host_samples AS h
            WHERE h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
                AND (empty({hosts:Array(String)}) OR h.host IN {hosts:Array(String)})
        )
        AND (empty({hosts:Array(String)}) OR r.host IN {hosts:Array(String)})
        AND (empty({name_contains:String}) OR positionCaseInsensitiveUTF8(r.name, {name_contains:String}) > 0)
        AND (empty({name_prefix:String}) OR startsWith(r.name, {name_prefix:String}))
        AND (empty({name_regex:String}) OR match(r.name, {name_regex:String}))
    GROUP BY r.host, r.time
) AS a
GROUP BY a.host
