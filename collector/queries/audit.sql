-- Where each CPU-second of each host went: plain sums of what the agents audited. A part that a kernel does not tell
-- apart is NULL in every row and stays NULL here.
SELECT
    toString(h.host) AS name,
    argMax(tuple(h.cpus), h.time).1 AS newest_cpus,
    sum(h.wall_ns) AS sum_wall_ns,
    sum(h.process_ns) AS sum_process_ns,
    sum(h.kthread_ns) AS sum_kthread_ns,
    sum(h.idle_ns) AS sum_idle_ns,
    sum(h.iowait_ns) AS sum_iowait_ns,
    sum(h.irq_ns) AS sum_irq_ns,
    sum(h.softirq_ns) AS sum_softirq_ns,
    sum(h.steal_ns) AS sum_steal_ns,
    max(h.interrupts_in_tasks) AS any_interrupts_in_tasks,
    sum(h.residual_ns) AS sum_residual_ns,
    sum(h.lost_events) AS sum_lost_events,
    sum(h.torn_reads) AS sum_torn_reads,
    count(h.wall_ns) AS snapshots
FROM host_samples AS h
WHERE h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
GROUP BY h.host
ORDER BY name
LIMIT {limit:UInt64}
