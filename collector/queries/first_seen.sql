-- Where the first intervals of hosts began within a range, as far as samples tell.
SELECT toString(h.host) AS name, min(toUnixTimestamp64Milli(h.time) - intDiv(toInt64(interval_ns), 1000000)) AS first_ms
FROM host_samples AS h
WHERE h.host IN {hosts:Array(String)}
    AND h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND toStartOfHour(h.time) >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
    AND toStartOfHour(h.time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
GROUP BY h.host
