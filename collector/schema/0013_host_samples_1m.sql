-- One row a host and minute, written after all rows of process_samples_1m: its version says of how many snapshots the
-- minute was computed, and when host_samples has more now, it is computed again.
CREATE TABLE IF NOT EXISTS host_samples_1m
(
    host LowCardinality(String) COMMENT 'Name of the host',
    window DateTime('UTC') COMMENT 'Begin of the window; it covers the snapshots whose time lies in (window, window + 1 minute]' CODEC(Delta, ZSTD(1)),
    version UInt64 COMMENT 'Snapshots of the window that the computation saw at least; the greatest wins, and what is less than there are now is computed again' CODEC(T64, ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'End of the last interval in the window, by the wall clock of the host' CODEC(Delta, ZSTD(1)),
    observed_ns UInt64 COMMENT 'Sum of the lengths of the intervals, nanoseconds of CLOCK_MONOTONIC_RAW' CODEC(T64, ZSTD(1)),
    longest_interval_ns UInt64 COMMENT 'Length of the longest of them, nanoseconds' CODEC(T64, ZSTD(1)),
    samples UInt64 COMMENT 'Rows of the snapshots in process_samples' CODEC(T64, ZSTD(1)),
    exits UInt64 COMMENT 'Rows of the snapshots in process_exits' CODEC(T64, ZSTD(1)),
    boot_ids Array(UUID) COMMENT 'Boot ids of the kernel' CODEC(ZSTD(1)),
    sources Array(String) COMMENT 'All ways in which rows of the snapshots were measured' CODEC(ZSTD(1)),
    cpus Nullable(UInt32) COMMENT 'Most CPUs online at the end of an interval; NULL when never known' CODEC(T64, ZSTD(1)),
    wall_ns Nullable(UInt64) COMMENT 'Audit: CPUs x length of the intervals, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    process_ns Nullable(UInt64) COMMENT 'Audit: CPU time of user processes, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    kthread_ns Nullable(UInt64) COMMENT 'Audit: CPU time of kernel threads, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    idle_ns Nullable(UInt64) COMMENT 'Audit: idle time without iowait, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    iowait_ns Nullable(UInt64) COMMENT 'Audit: idle time while a task waited for a disk, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    irq_ns Nullable(UInt64) COMMENT 'Audit: hard interrupts, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    softirq_ns Nullable(UInt64) COMMENT 'Audit: soft interrupts, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    steal_ns Nullable(UInt64) COMMENT 'Audit: time taken by the hypervisor, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    residual_ns Nullable(Int64) COMMENT 'Audit: wall minus all of the above, nanoseconds; may be negative; NULL when never known' CODEC(T64, ZSTD(1)),
    lost_events Nullable(UInt64) COMMENT 'Audit: events of the kernel side that never arrived; NULL when never known' CODEC(T64, ZSTD(1)),
    torn_reads Nullable(UInt64) COMMENT 'Audit: readings that fell below an earlier one and were not counted; NULL when never known' CODEC(T64, ZSTD(1)),
    interrupts_in_tasks Nullable(Bool) COMMENT 'Audit: task times contain interrupts on this kernel; NULL when never known' CODEC(T64, ZSTD(1)),
    memory_total_bytes Nullable(UInt64) COMMENT 'Memory of the machine, bytes; NULL when never known' CODEC(T64, ZSTD(1)),
    memory_available_byte_ns Nullable(UInt128) COMMENT 'MemAvailable x length of the interval, summed up, bytes x nanoseconds; NULL when never known' CODEC(ZSTD(1)),
    memory_available_known_ns UInt64 COMMENT 'Length of the intervals in which MemAvailable was known, nanoseconds' CODEC(T64, ZSTD(1)),
    processes Nullable(UInt32) COMMENT 'Most processes alive at the end of an interval; NULL when never known' CODEC(T64, ZSTD(1)),
    threads Nullable(UInt32) COMMENT 'Most threads alive at the end of an interval; NULL when never known' CODEC(T64, ZSTD(1)),
    agent_cpu_time_ns_delta Nullable(UInt64) COMMENT 'CPU time the agent itself used, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    agent_rss_bytes Nullable(UInt64) COMMENT 'Greatest resident set of the agent at the end of an interval, bytes; NULL when never known' CODEC(T64, ZSTD(1)),
    agent_drain_ns Nullable(UInt64) COMMENT 'Time the drains of the kernel maps took, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    agent_events Nullable(UInt64) COMMENT 'Records the kernel side sent; NULL when never known' CODEC(T64, ZSTD(1)),
    kernel_ppm_ns Nullable(UInt128) COMMENT 'What the programs in the kernel took, parts per million x length of the interval, summed up, nanoseconds; NULL when never known' CODEC(ZSTD(1)),
    kernel_ppm_known_ns UInt64 COMMENT 'Length of the intervals in which that was known, nanoseconds' CODEC(T64, ZSTD(1)),
    program_runs Map(String, UInt64) COMMENT 'How often each program in the kernel ran; empty when none ran or nobody told' CODEC(ZSTD(1)),
    program_run_ns Map(String, UInt64) COMMENT 'Time of each program in the kernel, nanoseconds; empty when none ran or nobody told' CODEC(ZSTD(1)),
    losses Map(String, UInt64) COMMENT 'What was lost, count by reason; empty: nothing' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toDate(window)
ORDER BY (toStartOfHour(window), host, window)
TTL window + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Each host in each minute: observed time, the audit of its CPU time, losses, and what measuring cost'
