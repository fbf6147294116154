-- What stays the same between two execs of a process, so that command lines are stored once and not in every sample.
-- Never joined to process_samples: they are fetched afterwards for the few processes an answer shows.
-- Agents send a process again after a restart; the newest row wins, so storing one twice is harmless.
-- Months as partitions let whole parts expire although rows replace each other.
CREATE TABLE IF NOT EXISTS processes
(
    agent_id UUID COMMENT 'Identity of the agent that measured' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Random number of one life of the agent' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'Number of the snapshot within the epoch' CODEC(ZSTD(1)),
    host LowCardinality(String) COMMENT 'Name of the host',
    time DateTime64(3, 'UTC') COMMENT 'End of the interval in which the agent described the process' CODEC(ZSTD(1)),
    process_id UUID COMMENT 'Identity of the process for good: boot, tgid and start time' CODEC(ZSTD(1)),
    exec_generation UInt32 COMMENT 'Rises by one at each exec of the process' CODEC(T64, ZSTD(1)),
    pid UInt32 COMMENT 'Process id (tgid) in the pid namespace of the host' CODEC(T64, ZSTD(1)),
    parent_pid UInt32 COMMENT 'Process id of the parent when the process was first seen' CODEC(T64, ZSTD(1)),
    start_boottime_ns UInt64 COMMENT 'Start of the process, nanoseconds since boot (CLOCK_BOOTTIME)' CODEC(ZSTD(1)),
    start_time DateTime64(3, 'UTC') COMMENT 'Start of the process by the wall clock, for display' CODEC(ZSTD(1)),
    name LowCardinality(String) COMMENT 'Name of the command, escaped',
    exe String COMMENT 'Executable, escaped; empty when not known' CODEC(ZSTD(1)),
    cmdline String COMMENT 'Arguments after scrubbing, escaped, joined by blanks; empty when switched off or not known' CODEC(ZSTD(1)),
    uid UInt32 COMMENT 'Real user id in the user namespace of the host' CODEC(T64, ZSTD(1)),
    cgroup String COMMENT 'Path of the control group, escaped; empty when not known' CODEC(ZSTD(1)),
    container_id LowCardinality(String) COMMENT 'Container id from the control group; empty when there is none',
    kernel_thread Bool COMMENT 'A kernel thread' CODEC(T64, ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When the collector received the description; the newest row of a process wins' CODEC(ZSTD(1)),
    INDEX epoch_bloom epoch TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(received_at)
PARTITION BY toYYYYMM(time)
ORDER BY (process_id, exec_generation)
TTL toDateTime(time) + INTERVAL 35 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Command line, executable and control group of each process'
