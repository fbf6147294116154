-- One row a snapshot, always, so that silence differs from idleness: coverage is the sum of its intervals. It also
-- holds the audit (where each CPU-second went), what the machine is, and what measuring cost.
-- It is written last of all tables: a snapshot with a row here is stored completely.
CREATE TABLE IF NOT EXISTS host_samples
(
    agent_id UUID COMMENT 'Identity of the agent that measured' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Random number of one life of the agent' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the snapshot within the epoch, from 1 without gaps' CODEC(Delta, ZSTD(1)),
    host LowCardinality(String) COMMENT 'Name of the host',
    boot_id UUID COMMENT 'Boot id of the kernel; changes at each start of the machine' CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'End of the interval, by the wall clock of the host; the row covers (time - interval_ns, time]' CODEC(Delta, ZSTD(1)),
    interval_ns UInt64 COMMENT 'Length of the interval, nanoseconds of CLOCK_MONOTONIC_RAW' CODEC(T64, ZSTD(1)),
    source LowCardinality(String) COMMENT 'How it was measured: ebpf (every process, exact) or proc (sampled)',
    samples UInt32 COMMENT 'Rows of this snapshot in process_samples' CODEC(T64, ZSTD(1)),
    exits UInt32 COMMENT 'Rows of this snapshot in process_exits' CODEC(T64, ZSTD(1)),
    cpus Nullable(UInt32) COMMENT 'CPUs online at the end of the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    wall_ns Nullable(UInt64) COMMENT 'Audit: CPUs x length of the interval, nanoseconds; NULL when there was no audit' CODEC(T64, ZSTD(1)),
    process_ns Nullable(UInt64) COMMENT 'Audit: CPU time of user processes, nanoseconds' CODEC(T64, ZSTD(1)),
    kthread_ns Nullable(UInt64) COMMENT 'Audit: CPU time of kernel threads, nanoseconds' CODEC(T64, ZSTD(1)),
    idle_ns Nullable(UInt64) COMMENT 'Audit: idle time without iowait, nanoseconds' CODEC(T64, ZSTD(1)),
    iowait_ns Nullable(UInt64) COMMENT 'Audit: idle time while a task waited for a disk, nanoseconds; NULL when the kernel does not say' CODEC(T64, ZSTD(1)),
    irq_ns Nullable(UInt64) COMMENT 'Audit: hard interrupts, nanoseconds; NULL when task times contain them' CODEC(T64, ZSTD(1)),
    softirq_ns Nullable(UInt64) COMMENT 'Audit: soft interrupts, nanoseconds; NULL when task times contain them' CODEC(T64, ZSTD(1)),
    steal_ns Nullable(UInt64) COMMENT 'Audit: time taken by the hypervisor, nanoseconds; NULL when task times contain it' CODEC(T64, ZSTD(1)),
    interrupts_in_tasks Nullable(Bool) COMMENT 'Audit: task times contain interrupts on this kernel' CODEC(T64, ZSTD(1)),
    residual_ns Nullable(Int64) COMMENT 'Audit: wall minus all of the above, nanoseconds; may be negative' CODEC(T64, ZSTD(1)),
    lost_events Nullable(UInt64) COMMENT 'Audit: events of the kernel side that never arrived' CODEC(T64, ZSTD(1)),
    torn_reads Nullable(UInt64) COMMENT 'Audit: readings that fell below an earlier one and were not counted' CODEC(T64, ZSTD(1)),
    agent_version LowCardinality(String) COMMENT 'Version of the agent; empty when not known',
    kernel_release LowCardinality(String) COMMENT 'Release of the kernel as uname -r prints it; empty when not known',
    architecture LowCardinality(String) COMMENT 'Machine name of the hardware as uname -m prints it; empty when not known',
    memory_total_bytes Nullable(UInt64) COMMENT 'Memory of the machine, bytes; NULL when not known' CODEC(T64, ZSTD(1)),
    memory_available_bytes Nullable(UInt64) COMMENT 'MemAvailable at the end of the interval, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    processes Nullable(UInt32) COMMENT 'Processes alive at the end of the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    threads Nullable(UInt32) COMMENT 'Threads alive at the end of the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    agent_cpu_time_ns_delta Nullable(UInt64) COMMENT 'CPU time the agent itself used within the interval, nanoseconds; NULL when not known' CODEC(T64, ZSTD(1)),
    agent_rss_bytes Nullable(UInt64) COMMENT 'Resident set of the agent, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    agent_drain_ns Nullable(UInt64) COMMENT 'Time one drain of the kernel maps took, nanoseconds; NULL when not known' CODEC(T64, ZSTD(1)),
    agent_events Nullable(UInt64) COMMENT 'Records the kernel side sent within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    agent_queue_len Nullable(UInt64) COMMENT 'Snapshots that waited in the agent for the collector; NULL when not known' CODEC(T64, ZSTD(1)),
    losses Map(String, UInt64) COMMENT 'What was lost within the interval, count by reason; empty: nothing' CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When the collector received the snapshot, by the clock of the collector' CODEC(Delta, ZSTD(1)),
    INDEX epoch_bloom epoch TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (toStartOfHour(time), host, time)
TTL toDateTime(time) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Each host in each interval: observed time, the audit of its CPU time, losses, and what measuring cost'
