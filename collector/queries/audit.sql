-- Where each CPU-second of each host went: plain sums of what the agents audited. A part that a kernel does not tell
-- apart is NULL in every row and stays NULL here. So is what measuring cost when nobody told it.
-- sumMap leaves out programs that never ran; they are listed all the same.
WITH
    sumMap(h.program_names, h.program_runs, h.program_run_ns) AS sums,
    arraySort(groupUniqArrayArray(256)(h.program_names)) AS names
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
    count(h.wall_ns) AS snapshots,
    sum(toFloat64(h.kernel_ppm) * h.interval_ns) / sumIf(h.interval_ns, h.kernel_ppm IS NOT NULL) AS mean_kernel_ppm,
    argMax(h.kernel_budget_ppm, h.time) AS last_kernel_budget_ppm,
    argMax(h.attach_ns, h.time) AS last_attach_ns,
    names AS program_names,
    arrayMap(program -> sums.2[indexOf(sums.1, program)], names) AS program_runs,
    arrayMap(program -> sums.3[indexOf(sums.1, program)], names) AS program_run_ns,
    sum(h.agent_cpu_time_ns_delta) AS agent_cpu_time_ns,
    agent_cpu_time_ns / sumIf(h.interval_ns, h.agent_cpu_time_ns_delta IS NOT NULL) * 100 AS agent_cpu_percent,
    max(h.agent_rss_bytes) AS agent_peak_rss_bytes,
    avg(h.agent_drain_ns) AS agent_avg_drain_ns,
    max(h.agent_drain_ns) AS agent_max_drain_ns,
    sum(h.agent_events) AS sum_agent_events
FROM host_samples AS h
WHERE h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
GROUP BY h.host
ORDER BY name
LIMIT {limit:UInt64}
