-- Computes minutes of hosts, after their rows in process_samples_1m, group_peaks_1m and group_samples_1m are stored.
INSERT INTO host_samples_1m
(
    host,
    window,
    version,
    time,
    observed_ns,
    longest_interval_ns,
    samples,
    exits,
    boot_ids,
    sources,
    cpus,
    wall_ns,
    process_ns,
    kthread_ns,
    idle_ns,
    iowait_ns,
    irq_ns,
    softirq_ns,
    steal_ns,
    residual_ns,
    lost_events,
    torn_reads,
    interrupts_in_tasks,
    memory_total_bytes,
    memory_available_byte_ns,
    memory_available_known_ns,
    processes,
    threads,
    agent_cpu_time_ns_delta,
    agent_rss_bytes,
    agent_drain_ns,
    agent_events,
    kernel_ppm_ns,
    kernel_ppm_known_ns,
    program_runs,
    program_run_ns,
    losses,
    agent_ids,
    newest,
    audits,
    kernel_budget_ppm,
    attach_ns,
    program_names,
    agent_cpu_known_ns,
    agent_drains,
    agent_max_drain_ns,
    group_sums
)
WITH windows AS
(
    SELECT w.1 AS host, toDateTime(w.2, 'UTC') AS window, w.3 AS version
    FROM (SELECT arrayJoin(arrayZip({hosts:Array(String)}, {windows:Array(UInt32)}, {versions:Array(UInt64)})) AS w)
)
SELECT
    s.host,
    s.minute,
    any(w.version),
    max(s.time),
    sum(s.interval_ns),
    max(s.interval_ns),
    sum(s.samples),
    sum(s.exits),
    arraySort(groupUniqArray(s.boot_id)),
    arraySort(groupUniqArrayArray(arrayConcat([toString(s.source)], s.sources))),
    max(s.cpus),
    sum(s.wall_ns),
    sum(s.process_ns),
    sum(s.kthread_ns),
    sum(s.idle_ns),
    sum(s.iowait_ns),
    sum(s.irq_ns),
    sum(s.softirq_ns),
    sum(s.steal_ns),
    sum(s.residual_ns),
    sum(s.lost_events),
    sum(s.torn_reads),
    max(s.interrupts_in_tasks),
    max(s.memory_total_bytes),
    sum(toUInt128(s.memory_available_bytes) * s.interval_ns),
    sumIf(s.interval_ns, isNotNull(s.memory_available_bytes)),
    max(s.processes),
    max(s.threads),
    sum(s.agent_cpu_time_ns_delta),
    max(s.agent_rss_bytes),
    sum(s.agent_drain_ns),
    sum(s.agent_events),
    sum(toUInt128(s.kernel_ppm) * s.interval_ns),
    sumIf(s.interval_ns, isNotNull(s.kernel_ppm)),
    sumMap(mapFromArrays(s.program_names, s.program_runs)),
    sumMap(mapFromArrays(s.program_names, s.program_run_ns)),
    sumMap(s.losses),
    arraySort(groupUniqArray(s.agent_id)),
    argMax((s.agent_id, s.interval_ns, s.agent_version, s.kernel_release, s.architecture, s.cpus, s.memory_total_bytes,
        s.memory_available_bytes, s.processes, s.threads, (s.process_ns + s.kthread_ns) / s.wall_ns * s.cpus * 100, s.agent_rss_bytes), s.time),
    count(s.wall_ns),
    argMax(s.kernel_budget_ppm, s.time),
    argMax(s.attach_ns, s.time),
    arraySort(groupUniqArrayArray(256)(s.program_names)),
    sumIf(s.interval_ns, isNotNull(s.agent_cpu_time_ns_delta)),
    count(s.agent_drain_ns),
    max(s.agent_drain_ns),
    true
FROM
(
    SELECT *, toDateTime(toStartOfMinute(subtractMilliseconds(r.time, 1)), 'UTC') AS minute
    FROM host_samples AS r
    WHERE r.time > fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
        AND r.time <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
        AND toStartOfHour(r.time) >= toStartOfHour(fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC'))
        AND toStartOfHour(r.time) <= toStartOfHour(fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC'))
        AND r.host IN {hosts:Array(String)}
) AS s
INNER JOIN windows AS w ON s.host = w.host AND s.minute = w.window
GROUP BY s.host, s.minute
SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 10000000, min_insert_block_size_bytes = 0
