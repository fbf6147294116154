-- The ends of the last intervals of one host, newest first.
SELECT
    toUnixTimestamp64Milli(h.time) AS time_ms,
    interval_ns
FROM host_samples AS h
WHERE h.time > fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
    AND h.time <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
    AND toStartOfHour(h.time) >= toStartOfHour(fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC'))
    AND toStartOfHour(h.time) <= toStartOfHour(fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC'))
    AND host = {host:String}
ORDER BY h.time DESC
LIMIT {limit:UInt64}
