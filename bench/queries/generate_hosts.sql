-- The rows of the hosts that generate_samples.sql tells of; written last, as the collector does.
INSERT INTO host_samples
(
    agent_id, epoch, seq, host, boot_id, time, interval_ns, source, samples, exits, cpus, wall_ns, process_ns, kthread_ns,
    idle_ns, iowait_ns, irq_ns, softirq_ns, steal_ns, interrupts_in_tasks, residual_ns, lost_events, torn_reads,
    agent_version, kernel_release, architecture, memory_total_bytes, memory_available_bytes, processes, threads, received_at
)
WITH
    intDiv({to_s:UInt32} - {from_s:UInt32}, {step_s:UInt32}) AS steps,
    intDiv(number, steps) AS machine,
    {from_s:UInt32} + (number % steps + 1) * {step_s:UInt32} AS at_s
SELECT
    toUUID('00000000-0000-4000-8000-000000000000') AS agent_id,
    cityHash64(machine) AS epoch,
    at_s AS seq,
    concat('bench-', leftPad(toString(machine), 3, '0')) AS host,
    reinterpretAsUUID(sipHash128(machine)) AS boot_id,
    fromUnixTimestamp64Milli(toInt64(at_s) * 1000, 'UTC') AS time,
    {step_s:UInt32} * 1000000000 AS interval_ns,
    'ebpf' AS source,
    {processes:UInt32} AS samples,
    if(at_s % 60 = 0, {processes:UInt32} - intDiv({processes:UInt32} * 9, 10), 0) AS exits,
    8 AS cpus,
    interval_ns * 8 AS wall_ns,
    intDiv(wall_ns, 10) AS process_ns,
    intDiv(wall_ns, 100) AS kthread_ns,
    wall_ns - process_ns - kthread_ns AS idle_ns,
    0 AS iowait_ns,
    0 AS irq_ns,
    0 AS softirq_ns,
    0 AS steal_ns,
    true AS interrupts_in_tasks,
    0 AS residual_ns,
    0 AS lost_events,
    0 AS torn_reads,
    'bench' AS agent_version,
    'none' AS kernel_release,
    'none' AS architecture,
    68719476736 AS memory_total_bytes,
    34359738368 AS memory_available_bytes,
    {processes:UInt32} AS processes,
    {processes:UInt32} * 3 AS threads,
    time AS received_at
FROM numbers_mt(toUInt64({machines:UInt32}) * steps)
