-- Where each CPU-second of a host went in a range, with the figures of GetAudit.
CREATE VIEW IF NOT EXISTS host_audit AS
SELECT
    h.host AS host,
    sum(h.wall_ns) / 1e9 AS wall_seconds,
    sum(h.process_ns) / 1e9 AS process_seconds,
    sum(h.kthread_ns) / 1e9 AS kernel_thread_seconds,
    sum(h.idle_ns) / 1e9 AS idle_seconds,
    sum(h.iowait_ns) / 1e9 AS iowait_seconds,
    sum(h.irq_ns) / 1e9 AS irq_seconds,
    sum(h.softirq_ns) / 1e9 AS softirq_seconds,
    sum(h.steal_ns) / 1e9 AS steal_seconds,
    sum(h.residual_ns) / 1e9 AS residual_seconds,
    sum(h.residual_ns) / sum(h.wall_ns) * 100 AS residual_percent,
    sum(h.lost_events) AS lost_events,
    sum(h.torn_reads) AS torn_reads,
    sum(h.agent_cpu_time_ns_delta) / 1e9 AS agent_cpu_seconds,
    count() AS snapshots
FROM host_samples AS h
WHERE h.time > {start:DateTime64(3, 'UTC')} AND h.time <= {end:DateTime64(3, 'UTC')}
    AND ({host:String} = '' OR h.host = {host:String})
GROUP BY host
COMMENT 'Where each CPU-second went: host_audit(host = ''h'' or '''', start = …, end = …)'
