-- Who a process was and where it ran, once its samples are gone: from its newest hour of the range.
SELECT
    toString(s.host) AS ran_on,
    toString(s.name) AS command,
    pid,
    parent_pid,
    start_boottime_ns,
    toUnixTimestamp64Milli(s.start_time) AS start_time_ms,
    parent_start_boottime_ns,
    NULL::Nullable(String) AS boot
FROM process_samples_1h AS s
WHERE process_id = toUUIDOrZero({process_id:String})
    AND s.window >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
    AND s.window < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
ORDER BY s.time DESC, s.version DESC
LIMIT 1
