-- Minutes of hosts of which there are more snapshots than they were computed of, within a range that begins and ends with
-- whole minutes. `rows` is how much there is to read.
SELECT toString(c.host) AS host, c.window AS window_s, c.version AS version, c.rows AS rows
FROM
(
    SELECT
        r.host AS host,
        toUnixTimestamp(toStartOfMinute(subtractMilliseconds(r.time, 1))) AS window,
        count() AS version,
        sum(r.samples) AS rows
    FROM host_samples AS r
    WHERE r.time > fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
        AND r.time <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
        AND (empty({hosts:Array(String)}) OR r.host IN {hosts:Array(String)})
    GROUP BY host, window
) AS c
LEFT JOIN
(
    SELECT m.host AS host, toUnixTimestamp(m.window) AS window, max(m.version) AS version
    FROM host_samples_1m AS m
    WHERE m.window >= toDateTime(intDiv({from_ms:Int64}, 1000), 'UTC')
        AND m.window < toDateTime(intDiv({to_ms:Int64}, 1000), 'UTC')
        AND (empty({hosts:Array(String)}) OR m.host IN {hosts:Array(String)})
    GROUP BY host, window
) AS k ON c.host = k.host AND c.window = k.window
WHERE c.version > k.version
ORDER BY window_s, host
LIMIT {limit:UInt64}
