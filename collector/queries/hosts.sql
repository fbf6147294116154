-- Hosts that sent something within a range, as their newest snapshot describes them.
SELECT
    toString(h.host) AS name,
    toString(argMax(h.agent_id, h.time)) AS newest_agent_id,
    toUnixTimestamp64Milli(max(h.time)) AS last_seen_ms,
    argMax(h.interval_ns, h.time) AS newest_interval_ns,
    toString(argMax(h.agent_version, h.time)) AS newest_agent_version,
    toString(argMax(h.kernel_release, h.time)) AS newest_kernel_release,
    toString(argMax(h.architecture, h.time)) AS newest_architecture,
    argMax(tuple(h.cpus), h.time).1 AS newest_cpus,
    argMax(tuple(h.memory_total_bytes), h.time).1 AS newest_memory_total_bytes,
    argMax(tuple(h.memory_available_bytes), h.time).1 AS newest_memory_available_bytes,
    argMax(tuple(h.processes), h.time).1 AS newest_processes,
    argMax(tuple(h.threads), h.time).1 AS newest_threads,
    argMax(tuple((h.process_ns + h.kthread_ns) / h.wall_ns * h.cpus * 100), h.time).1 AS newest_cpu_percent,
    uniqExact(h.agent_id) AS agents,
    sum(h.agent_cpu_time_ns_delta) / sum(h.interval_ns) * 100 AS agent_cpu_percent,
    argMax(tuple(h.agent_rss_bytes), h.time).1 AS newest_agent_rss_bytes
FROM host_samples AS h
WHERE h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY h.host
ORDER BY name
LIMIT {limit:UInt64}
