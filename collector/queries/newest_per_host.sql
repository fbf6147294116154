-- The newest complete interval of each host. Only a window around now is read: the newest row of a host that is alive
-- lies there, and a host whose clock runs far ahead must not decide what "the last intervals" are.
SELECT
    host,
    toUnixTimestamp64Milli(max(h.time)) AS newest_ms,
    argMax(interval_ns, h.time) AS newest_interval_ns
FROM host_samples AS h
WHERE h.time > fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
    AND h.time <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
    AND toStartOfHour(h.time) >= toStartOfHour(fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC'))
    AND toStartOfHour(h.time) <= toStartOfHour(fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC'))
    AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
GROUP BY host
ORDER BY host
