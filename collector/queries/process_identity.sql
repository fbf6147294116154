-- Who a process is and where it ran, from its newest row of the range or else from its description; no row: never heard
-- of it. The boot id stands with the snapshots of the agent that told of it. The process is of one boot, so any does.
WITH found AS
(
    SELECT * FROM
    (
        SELECT
            agent_id,
            epoch,
            toString(s.host) AS ran_on,
            toString(s.name) AS command,
            pid,
            parent_pid,
            start_boottime_ns,
            s.start_time AS began,
            parent_start_boottime_ns,
            0 AS rank
        FROM process_samples AS s
        WHERE process_id = toUUIDOrZero({process_id:String})
            AND s.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
            AND s.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            AND toStartOfHour(s.time) >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
            AND toStartOfHour(s.time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
        ORDER BY s.time DESC
        LIMIT 1
        UNION ALL
        SELECT
            agent_id,
            epoch,
            toString(p.host) AS ran_on,
            toString(p.name) AS command,
            pid,
            parent_pid,
            start_boottime_ns,
            p.start_time AS began,
            NULL::Nullable(UInt64) AS parent_start_boottime_ns,
            1 AS rank
        FROM processes AS p
        WHERE process_id = toUUIDOrZero({process_id:String})
        ORDER BY p.exec_generation DESC
        LIMIT 1
    )
    ORDER BY rank
    LIMIT 1
)
SELECT
    ran_on,
    command,
    pid,
    parent_pid,
    start_boottime_ns,
    toUnixTimestamp64Milli(began) AS start_time_ms,
    parent_start_boottime_ns,
    toNullable((
        SELECT toString(h.boot_id)
        FROM host_samples AS h
        WHERE h.epoch = (SELECT epoch FROM found) AND h.agent_id = (SELECT agent_id FROM found)
        LIMIT 1
    )) AS boot
FROM found
