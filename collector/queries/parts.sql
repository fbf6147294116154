-- The parts that hold everything an answer is made of, each as a number with the time that it spans; whatever is written,
-- computed, merged or dropped changes them. A part without times is of any time.
SELECT
    cityHash64(table, name) AS number,
    if(max_time > toDateTime(0), toInt64(toUnixTimestamp(min_time)) * 1000, 0) AS from_ms,
    if(max_time > toDateTime(0), (toInt64(toUnixTimestamp(max_time)) + 1) * 1000, 9223372036854775807) AS to_ms,
    table = 'host_samples' AS of_hosts
FROM system.parts
WHERE active AND database = currentDatabase()
    AND table NOT IN ('schema_migrations', 'leases', 'agents', 'set_aside')
