-- Hours of hosts whose minutes were computed of more snapshots than the hour was, within a range that begins and ends with
-- whole hours. `rows` is how much there is to read, at most.
SELECT toString(c.host) AS host, c.window AS window_s, c.version AS version, c.rows AS rows
FROM
(
    SELECT r.host AS host, toUnixTimestamp(toStartOfHour(r.window)) AS window, sum(r.version) AS version, sum(r.samples) AS rows
    FROM host_samples_1m AS r FINAL
    WHERE r.window >= toDateTime(intDiv({from_ms:Int64}, 1000), 'UTC')
        AND r.window < toDateTime(intDiv({to_ms:Int64}, 1000), 'UTC')
        AND (empty({hosts:Array(String)}) OR r.host IN {hosts:Array(String)})
    GROUP BY host, window
) AS c
LEFT JOIN
(
    SELECT m.host AS host, toUnixTimestamp(m.window) AS window, max(m.version) AS version
    FROM host_samples_1h AS m
    WHERE m.window >= toDateTime(intDiv({from_ms:Int64}, 1000), 'UTC')
        AND m.window < toDateTime(intDiv({to_ms:Int64}, 1000), 'UTC')
        AND (empty({hosts:Array(String)}) OR m.host IN {hosts:Array(String)})
    GROUP BY host, window
) AS k ON c.host = k.host AND c.window = k.window
WHERE c.version > k.version
ORDER BY window_s, host
LIMIT {limit:UInt64}
