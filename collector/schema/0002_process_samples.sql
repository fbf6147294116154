-- One row a process and interval: the widest and by far the longest table.
-- ORDER BY was compared on 55 M rows with host-first and time-first keys over the whole set of questions: the hour in
-- front lets a range of time skip most granules, host and name behind it keep equal values together (0.03 bytes a row
-- for a name) and find one process quickly.
-- agent_id, epoch and seq are the ledger: after a crash a collector reads here what was stored. An epoch is random, and
-- a granule holds few hosts, so a bloom filter finds the rows of one epoch without reading the table. The rows of one
-- process lie side by side as well, so another one answers its history without knowing its host or name.
-- The deduplication window makes the retry of one insert harmless; fsync makes an acknowledged row outlive a power cut.
CREATE TABLE IF NOT EXISTS process_samples
(
    agent_id UUID COMMENT 'Identity of the agent that measured' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Random number of one life of the agent' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the snapshot within the epoch, from 1 without gaps' CODEC(Delta, ZSTD(1)),
    host LowCardinality(String) COMMENT 'Name of the host',
    time DateTime64(3, 'UTC') COMMENT 'End of the interval, by the wall clock of the host; the row covers (time - interval_ns, time]' CODEC(Delta, ZSTD(1)),
    interval_ns UInt64 COMMENT 'Length of the interval, nanoseconds of CLOCK_MONOTONIC_RAW' CODEC(T64, ZSTD(1)),
    process_id UUID COMMENT 'Identity of the process for good: boot, tgid and start time' CODEC(ZSTD(1)),
    exec_generation UInt32 COMMENT 'Rises by one at each exec of the process' CODEC(T64, ZSTD(1)),
    pid UInt32 COMMENT 'Process id (tgid) in the pid namespace of the host' CODEC(T64, ZSTD(1)),
    parent_pid UInt32 COMMENT 'Process id of the parent when the process was first seen' CODEC(T64, ZSTD(1)),
    start_boottime_ns UInt64 COMMENT 'Start of the process, nanoseconds since boot (CLOCK_BOOTTIME)' CODEC(ZSTD(1)),
    start_time DateTime64(3, 'UTC') COMMENT 'Start of the process by the wall clock, for display; computed once' CODEC(ZSTD(1)),
    name LowCardinality(String) COMMENT 'Name of the command; control characters and invalid UTF-8 stand as \\xNN',
    uid UInt32 COMMENT 'Real user id in the user namespace of the host' CODEC(T64, ZSTD(1)),
    container_id LowCardinality(String) COMMENT 'Container id from the control group; empty when there is none',
    kernel_thread Bool COMMENT 'A kernel thread: it has no memory of its own, so its memory columns are NULL' CODEC(T64, ZSTD(1)),
    exited Bool COMMENT 'The process ended within this interval' CODEC(T64, ZSTD(1)),
    first_seen Bool COMMENT 'First row of this process from this agent: it may have lived before' CODEC(T64, ZSTD(1)),
    cpu_time_ns UInt64 COMMENT 'CPU time of all threads over the whole life, nanoseconds' CODEC(ZSTD(1)),
    cpu_time_ns_delta UInt64 COMMENT 'CPU time used within the interval, nanoseconds' CODEC(T64, ZSTD(1)),
    rss_bytes Nullable(UInt64) COMMENT 'Resident set at the end of the interval, bytes; NULL for kernel threads and once ended' CODEC(Delta, ZSTD(1)),
    peak_rss_bytes Nullable(UInt64) COMMENT 'Greatest resident set within the interval, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    lifetime_peak_rss_bytes Nullable(UInt64) COMMENT 'Greatest resident set since the last exec, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    threads UInt32 COMMENT 'Threads alive at the end of the interval' CODEC(T64, ZSTD(1)),
    runqueue_ns_delta Nullable(UInt64) COMMENT 'Time threads were runnable without a CPU within the interval, nanoseconds; NULL when not known' CODEC(T64, ZSTD(1)),
    voluntary_switches_delta Nullable(UInt64) COMMENT 'Times a thread gave up its CPU by itself within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    involuntary_switches_delta Nullable(UInt64) COMMENT 'Times a thread was taken off its CPU within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    minor_faults_delta Nullable(UInt64) COMMENT 'Page faults answered without a disk within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    major_faults_delta Nullable(UInt64) COMMENT 'Page faults that read a disk within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    source LowCardinality(String) COMMENT 'How it was measured: ebpf (every process, exact) or proc (sampled)',
    received_at DateTime64(3, 'UTC') COMMENT 'When the collector received the snapshot, by the clock of the collector' CODEC(Delta, ZSTD(1)),
    INDEX epoch_bloom epoch TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX process_bloom process_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (toStartOfHour(time), host, name, pid, start_boottime_ns, time)
TTL toDateTime(time) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What each process used in each interval'
