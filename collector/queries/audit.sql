-- Where each CPU-second of each host went: plain sums of what the agents audited. A part that a kernel does not tell
-- apart is NULL in every row and stays NULL here. So is what measuring cost when nobody told it.
-- sumMap leaves out programs that never ran; they are listed all the same.
)
SELECT
    toString(p.host) AS name,
    argMax(p.newest, p.time).cpus AS newest_cpus,
    sum(p.wall_ns) AS sum_wall_ns,
    sum(p.process_ns) AS sum_process_ns,
    sum(p.kthread_ns) AS sum_kthread_ns,
    sum(p.idle_ns) AS sum_idle_ns,
    sum(p.iowait_ns) AS sum_iowait_ns,
    sum(p.irq_ns) AS sum_irq_ns,
    sum(p.softirq_ns) AS sum_softirq_ns,
    sum(p.steal_ns) AS sum_steal_ns,
    max(p.interrupts_in_tasks) AS any_interrupts_in_tasks,
    sum(p.residual_ns) AS sum_residual_ns,
    sum(p.lost_events) AS sum_lost_events,
    sum(p.torn_reads) AS sum_torn_reads,
    sum(p.audits) AS snapshots,
    sum(p.kernel_ppm_ns) / sum(p.kernel_ppm_known_ns) AS mean_kernel_ppm,
    argMax(p.kernel_budget_ppm, p.time) AS last_kernel_budget_ppm,
    argMax(p.attach_ns, p.time) AS last_attach_ns,
    arraySort(groupUniqArrayArray(256)(p.program_names)) AS names,
    arrayMap(program -> sumMap(p.program_runs)[program], names) AS runs,
    arrayMap(program -> sumMap(p.program_run_ns)[program], names) AS run_ns,
    sum(p.agent_cpu_time_ns_delta) AS agent_cpu_time_ns,
    sum(p.agent_cpu_time_ns_delta) / sum(p.agent_cpu_known_ns) * 100 AS agent_cpu_percent,
    max(p.agent_rss_bytes) AS agent_peak_rss_bytes,
    sum(p.agent_drain_ns) / sum(p.agent_drains) AS agent_avg_drain_ns,
    max(p.agent_max_drain_ns) AS agent_longest_drain_ns,
    sum(p.agent_events) AS sum_agent_events
FROM pieces AS p
GROUP BY p.host
ORDER BY name
LIMIT {limit:UInt64}
