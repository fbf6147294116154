-- The boots of hosts at instants: where processes ran, by the times of their newest rows.
SELECT toString(h.host) AS host, toUnixTimestamp64Milli(h.time) AS time_ms, toString(any(h.boot_id)) AS boot_id
FROM host_samples AS h
WHERE h.time IN (SELECT fromUnixTimestamp64Milli(arrayJoin({times_ms:Array(Int64)}), 'UTC'))
    AND h.host IN {hosts:Array(String)}
GROUP BY h.host, h.time
LIMIT 100000
