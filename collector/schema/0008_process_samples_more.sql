-- Where CPU time went within a process, what its memory is made of, and what it read and wrote.
-- A row may be measured in another way than its snapshot: a process that the kernel hides from programs is read from
-- /proc. NULL means not known; an older agent tells none of these.
ALTER TABLE process_samples
    ADD COLUMN IF NOT EXISTS user_time_ns_delta Nullable(UInt64) COMMENT 'CPU time in user space within the interval, nanoseconds: a share of cpu_time_ns_delta by the ticks of the kernel; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS system_time_ns_delta Nullable(UInt64) COMMENT 'CPU time in the kernel within the interval, nanoseconds: the rest of cpu_time_ns_delta; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS ended_threads_cpu_time_ns_delta Nullable(UInt64) COMMENT 'Of cpu_time_ns_delta, what threads used that ended within the interval, nanoseconds; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS runqueue_waits_delta Nullable(UInt64) COMMENT 'Times a thread was given a CPU within the interval, each after a wait of any length; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS runqueue_wait_counts Array(UInt64) COMMENT 'Waits for a CPU within the interval by length: below 1 us, 2 us, 4 us and so on, the last one open; empty when not counted' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS rss_anon_bytes Nullable(UInt64) COMMENT 'Of rss_bytes, anonymous memory, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS rss_file_bytes Nullable(UInt64) COMMENT 'Of rss_bytes, pages of files, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS rss_shmem_bytes Nullable(UInt64) COMMENT 'Of rss_bytes, shared memory, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS swap_bytes Nullable(UInt64) COMMENT 'Anonymous memory that is swapped out at the end of the interval, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS virtual_bytes Nullable(UInt64) COMMENT 'Size of the address space at the end of the interval, bytes; NULL when not known' CODEC(Delta, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS open_file_descriptors Nullable(UInt32) COMMENT 'File descriptors open at the end of the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS open_file_descriptor_limit Nullable(UInt64) COMMENT 'How many file descriptors the process may have open; NULL when not known' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS read_bytes_delta Nullable(UInt64) COMMENT 'Bytes that read(2) and its kin gave within the interval, from wherever; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS written_bytes_delta Nullable(UInt64) COMMENT 'Bytes that write(2) and its kin took within the interval, to wherever; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS read_operations_delta Nullable(UInt64) COMMENT 'Calls of read(2) and its kin within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS write_operations_delta Nullable(UInt64) COMMENT 'Calls of write(2) and its kin within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS disk_read_bytes_delta Nullable(UInt64) COMMENT 'Bytes fetched from storage within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS disk_written_bytes_delta Nullable(UInt64) COMMENT 'Bytes sent towards storage within the interval; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS state LowCardinality(String) COMMENT 'State of the first thread, the letter of /proc/PID/stat; empty when not known',
    ADD COLUMN IF NOT EXISTS namespace_pid Nullable(UInt32) COMMENT 'Process id in its own pid namespace; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS parent_start_boottime_ns Nullable(UInt64) COMMENT 'Start of the parent, nanoseconds since boot: with parent_pid its identity; NULL when not known' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cgroup_id Nullable(UInt64) COMMENT 'Inode number of the directory of the control group; NULL when not known' CODEC(ZSTD(1)),
    COMMENT COLUMN source 'How it was measured: ebpf (every process, exact), ebpf_quiet (the same with peaks as the kernel notes them) or proc (sampled)'
