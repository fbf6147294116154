-- Processes that ended, newest first. Pages go by key, not by offset: what arrives meanwhile moves nothing.
-- Comes after exits_found.sql.
SELECT
    toString(process_id) AS id,
    exec_generation,
    toString(host) AS host_name,
    toString(e.name) AS command,
    pid,
    parent_pid,
    uid,
    toUnixTimestamp64Milli(e.start_time) AS start_time_ms,
    toUnixTimestamp64Milli(e.end_time) AS end_time_ms,
    lifetime_ns,
    cpu_time_ns,
    peak_rss_bytes,
    exit_code,
    exit_signal,
    oom_killed,
    toString(e.container_id) AS container,
    toString(e.pod_uid) AS pod,
    runqueue_ns,
    voluntary_switches,
    involuntary_switches,
    minor_faults,
    major_faults,
    exe,
    toString(e.source) AS measured,
    user_time_ns,
    system_time_ns,
    runqueue_waits,
    read_bytes,
    written_bytes,
    read_operations,
    write_operations,
    disk_read_bytes,
    disk_written_bytes,
    namespace_pid,
    b.boot_id AS boot,
    start_boottime_ns,
    parent_start_boottime_ns
FROM found AS e
-- One life of an agent is within one boot.
LEFT JOIN
(
    SELECT tuple(c.agent_id, c.epoch) AS life, toNullable(toString(any(c.boot_id))) AS boot_id
    FROM complete AS c
    GROUP BY life
) AS b ON tuple(e.agent_id, e.epoch) = b.life
WHERE {before_id:String} = ''
    OR (toUnixTimestamp64Milli(e.end_time), id) < ({before_ms:Int64}, {before_id:String})
ORDER BY e.end_time DESC, id DESC
LIMIT {limit:UInt64}
