-- The host on which a process ran, from its rows of the range or else from its description; no row: never heard of it.
SELECT host FROM
(
    SELECT toString(host) AS host, 0 AS rank
    FROM process_samples AS s
    WHERE process_id = toUUIDOrZero({process_id:String})
        AND s.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND s.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    LIMIT 1
    UNION ALL
    SELECT toString(host) AS host, 1 AS rank
    FROM processes
    WHERE process_id = toUUIDOrZero({process_id:String})
    LIMIT 1
)
ORDER BY rank
LIMIT 1
