-- One row a process that ended, short-lived ones too, with the totals of its life.
-- `time` is the snapshot that brought it, so that all tables put one snapshot into one partition; the key is by
-- `end_time`, which is what people ask for.
CREATE TABLE IF NOT EXISTS process_exits
(
    agent_id UUID COMMENT 'Identity of the agent that measured' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Random number of one life of the agent' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the snapshot within the epoch' CODEC(Delta, ZSTD(1)),
    host LowCardinality(String) COMMENT 'Name of the host',
    time DateTime64(3, 'UTC') COMMENT 'End of the interval in which the process ended, by the wall clock of the host' CODEC(Delta, ZSTD(1)),
    process_id UUID COMMENT 'Identity of the process for good: boot, tgid and start time' CODEC(ZSTD(1)),
    exec_generation UInt32 COMMENT 'Rises by one at each exec of the process' CODEC(T64, ZSTD(1)),
    pid UInt32 COMMENT 'Process id (tgid) in the pid namespace of the host' CODEC(T64, ZSTD(1)),
    parent_pid UInt32 COMMENT 'Process id of the parent when the process was first seen' CODEC(T64, ZSTD(1)),
    start_boottime_ns UInt64 COMMENT 'Start of the process, nanoseconds since boot (CLOCK_BOOTTIME)' CODEC(ZSTD(1)),
    start_time DateTime64(3, 'UTC') COMMENT 'Start of the process by the wall clock' CODEC(Delta, ZSTD(1)),
    end_time DateTime64(3, 'UTC') COMMENT 'When the last thread ended, by the wall clock' CODEC(Delta, ZSTD(1)),
    name LowCardinality(String) COMMENT 'Name of the command; control characters and invalid UTF-8 stand as \\xNN',
    exe String COMMENT 'Executable, escaped; empty when not known' CODEC(ZSTD(1)),
    uid UInt32 COMMENT 'Real user id in the user namespace of the host' CODEC(T64, ZSTD(1)),
    container_id LowCardinality(String) COMMENT 'Container id from the control group; empty when there is none',
    lifetime_ns UInt64 COMMENT 'Time from start to end, nanoseconds of CLOCK_BOOTTIME' CODEC(T64, ZSTD(1)),
    cpu_time_ns UInt64 COMMENT 'CPU time of all threads over the whole life, nanoseconds' CODEC(T64, ZSTD(1)),
    peak_rss_bytes Nullable(UInt64) COMMENT 'Greatest resident set since the last exec, bytes; NULL when not known' CODEC(T64, ZSTD(1)),
    exit_code Nullable(UInt32) COMMENT 'What the process gave to exit(2); NULL when a signal ended it or nobody knows' CODEC(T64, ZSTD(1)),
    exit_signal Nullable(UInt32) COMMENT 'Signal that ended the process; NULL when it ended by itself or nobody knows' CODEC(T64, ZSTD(1)),
    oom_killed Nullable(Bool) COMMENT 'The OOM killer of the kernel chose it; NULL when not known' CODEC(T64, ZSTD(1)),
    runqueue_ns Nullable(UInt64) COMMENT 'Time runnable without a CPU over the whole life, nanoseconds; NULL when not known' CODEC(T64, ZSTD(1)),
    voluntary_switches Nullable(UInt64) COMMENT 'Times a thread gave up its CPU by itself over the whole life; NULL when not known' CODEC(T64, ZSTD(1)),
    involuntary_switches Nullable(UInt64) COMMENT 'Times a thread was taken off its CPU over the whole life; NULL when not known' CODEC(T64, ZSTD(1)),
    minor_faults Nullable(UInt64) COMMENT 'Page faults answered without a disk over the whole life; NULL when not known' CODEC(T64, ZSTD(1)),
    major_faults Nullable(UInt64) COMMENT 'Page faults that read a disk over the whole life; NULL when not known' CODEC(T64, ZSTD(1)),
    source LowCardinality(String) COMMENT 'How it was measured: ebpf (every process, exact) or proc (sampled)',
    received_at DateTime64(3, 'UTC') COMMENT 'When the collector received the snapshot, by the clock of the collector' CODEC(Delta, ZSTD(1)),
    INDEX epoch_bloom epoch TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (toStartOfHour(end_time), host, name, end_time, process_id)
TTL toDateTime(time) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Every process that ended, with the totals of its life'
