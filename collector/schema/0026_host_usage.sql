-- Hosts over time, a row for each host and step; `step` is in seconds. An interval counts where it ends.
CREATE VIEW IF NOT EXISTS host_usage AS
SELECT
    fromUnixTimestamp64Milli(intDiv(toUnixTimestamp64Milli(h.time) - 1, {step:UInt32} * 1000) * {step:UInt32} * 1000, 'UTC') AS time,
    h.host AS host,
    (sum(h.process_ns) + sum(h.kthread_ns)) / sum(h.interval_ns) * 100 AS avg_cpu_percent,
    max(h.cpus) AS cpus,
    sum(h.steal_ns) / sum(h.wall_ns) * 100 AS steal_percent,
    max(h.memory_total_bytes) / 1048576 AS memory_total_mb,
    (max(h.memory_total_bytes) - min(h.memory_available_bytes)) / 1048576 AS peak_memory_used_mb,
    max(h.processes) AS processes,
    max(h.threads) AS threads,
    sum(h.interval_ns) / 1e9 AS observed_seconds
FROM host_samples AS h
WHERE h.time > {start:DateTime64(3, 'UTC')} AND h.time <= {end:DateTime64(3, 'UTC')}
    AND ({host:String} = '' OR h.host = {host:String})
GROUP BY time, host
ORDER BY time, host
COMMENT 'Hosts over time: host_usage(host = ''h'' or '''', start = …, end = …, step = seconds)'
