-- Hosts that sent something within a range, as their newest snapshot describes them.
)
SELECT
    toString(h.host) AS name,
    toString(h.newest.agent_id) AS newest_agent_id,
    toUnixTimestamp64Milli(h.last_seen) AS last_seen_ms,
    h.newest.interval_ns AS newest_interval_ns,
    h.newest.agent_version AS newest_agent_version,
    h.newest.kernel_release AS newest_kernel_release,
    h.newest.architecture AS newest_architecture,
    h.newest.cpus AS newest_cpus,
    h.newest.memory_total_bytes AS newest_memory_total_bytes,
    h.newest.memory_available_bytes AS newest_memory_available_bytes,
    h.newest.processes AS newest_processes,
    h.newest.threads AS newest_threads,
    h.newest.cpu_percent AS newest_cpu_percent,
    h.agents AS agents,
    h.agent_cpu_percent AS agent_cpu_percent,
    h.newest.agent_rss_bytes AS newest_agent_rss_bytes
FROM
(
    SELECT
        p.host AS host,
        max(p.time) AS last_seen,
        argMax(p.newest, p.time) AS newest,
        length(groupUniqArrayArray(p.agent_ids)) AS agents,
        sum(p.agent_cpu_time_ns_delta) / sum(p.observed_ns) * 100 AS agent_cpu_percent
    FROM pieces AS p
    GROUP BY p.host
) AS h
ORDER BY name
LIMIT {limit:UInt64}
