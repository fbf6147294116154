-- What all members of a group used within an hour: as group_samples_1m, computed from process_samples_1h.
-- Days come first, as in group_peaks_1h: an hour is less than what is read at once, and of a few hosts little of a day is.
CREATE TABLE IF NOT EXISTS group_samples_1h
(
    host LowCardinality(String) COMMENT 'Name of the host',
    window DateTime('UTC') COMMENT 'Begin of the window; it covers the samples whose time lies in (window, window + 1 hour]' CODEC(Delta, ZSTD(1)),
    version UInt64 COMMENT 'Snapshots of the window that the computation saw at least; the greatest wins' CODEC(T64, ZSTD(1)),
    group_by LowCardinality(String) COMMENT 'What makes a group: command, container, pod, user or host',
    key LowCardinality(String) COMMENT 'Name of the command, container id, UID of the pod, user id or name of the host',
    time DateTime64(3, 'UTC') COMMENT 'End of the last interval of a member in the window, by the wall clock of the host' CODEC(Delta, ZSTD(1)),
    alive_ns UInt64 COMMENT 'Sum of the lengths of the intervals of all members, without those in which one ended, nanoseconds of CLOCK_MONOTONIC_RAW' CODEC(T64, ZSTD(1)),
    kernel_thread Bool COMMENT 'All members are kernel threads' CODEC(T64, ZSTD(1)),
    source LowCardinality(String) COMMENT 'How the members were measured: ebpf, ebpf_quiet or proc as in process_samples, or mixed',
    cpu_time_ns_delta UInt64 COMMENT 'CPU time used within the window, nanoseconds' CODEC(T64, ZSTD(1)),
    user_time_ns_delta Nullable(UInt64) COMMENT 'CPU time in user space within the window, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    system_time_ns_delta Nullable(UInt64) COMMENT 'CPU time in the kernel within the window, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    ended_threads_cpu_time_ns_delta Nullable(UInt64) COMMENT 'Of cpu_time_ns_delta, what threads used that ended, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    runqueue_ns_delta Nullable(UInt64) COMMENT 'Time threads were runnable without a CPU within the window, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1)),
    runqueue_waits_delta Nullable(UInt64) COMMENT 'Times a thread was given a CPU within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    voluntary_switches_delta Nullable(UInt64) COMMENT 'Times a thread gave up its CPU by itself within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    involuntary_switches_delta Nullable(UInt64) COMMENT 'Times a thread was taken off its CPU within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    minor_faults_delta Nullable(UInt64) COMMENT 'Page faults answered without a disk within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    major_faults_delta Nullable(UInt64) COMMENT 'Page faults that read a disk within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    read_bytes_delta Nullable(UInt64) COMMENT 'Bytes that read(2) and its kin gave within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    written_bytes_delta Nullable(UInt64) COMMENT 'Bytes that write(2) and its kin took within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    read_operations_delta Nullable(UInt64) COMMENT 'Calls of read(2) and its kin within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    write_operations_delta Nullable(UInt64) COMMENT 'Calls of write(2) and its kin within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    disk_read_bytes_delta Nullable(UInt64) COMMENT 'Bytes fetched from storage within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    disk_written_bytes_delta Nullable(UInt64) COMMENT 'Bytes sent towards storage within the window; NULL when never known' CODEC(T64, ZSTD(1)),
    runqueue_wait_counts Array(UInt64) COMMENT 'Waits for a CPU within the window by length, as in process_samples; empty when never counted' CODEC(ZSTD(1)),
    rss_byte_ns Nullable(UInt128) COMMENT 'Resident sets x length of the interval, summed up, bytes x nanoseconds; NULL when never known' CODEC(ZSTD(1)),
    threads UInt64 COMMENT 'Threads of the members that were alive at `time`' CODEC(T64, ZSTD(1)),
    rss_bytes Nullable(UInt64) COMMENT 'Resident sets of the members at `time`, bytes; NULL when none was known then' CODEC(Delta, ZSTD(1)),
    rss_anon_bytes Nullable(UInt64) COMMENT 'Anonymous memory that is resident of the members at `time`, bytes; NULL when none was known then' CODEC(Delta, ZSTD(1)),
    rss_file_bytes Nullable(UInt64) COMMENT 'Pages of files that are resident of the members at `time`, bytes; NULL when none was known then' CODEC(Delta, ZSTD(1)),
    rss_shmem_bytes Nullable(UInt64) COMMENT 'Shared memory that is resident of the members at `time`, bytes; NULL when none was known then' CODEC(Delta, ZSTD(1)),
    swap_bytes Nullable(UInt64) COMMENT 'Anonymous memory that is swapped out of the members at `time`, bytes; NULL when none was known then' CODEC(Delta, ZSTD(1)),
    virtual_bytes Nullable(UInt64) COMMENT 'Sizes of the address spaces of the members at `time`, bytes; NULL when none was known then' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window)
ORDER BY (toStartOfDay(window), group_by, host, key, window)
TTL window + INTERVAL 365 DAY
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What all of a command, container, pod, user and host used in each hour'
