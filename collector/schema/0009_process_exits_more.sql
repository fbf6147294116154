-- The totals of a life that process_samples has for each interval since 0008.
ALTER TABLE process_exits
    ADD COLUMN IF NOT EXISTS user_time_ns Nullable(UInt64) COMMENT 'CPU time in user space over the whole life, nanoseconds: a share of cpu_time_ns by the ticks of the kernel; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS system_time_ns Nullable(UInt64) COMMENT 'CPU time in the kernel over the whole life, nanoseconds: the rest of cpu_time_ns; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS runqueue_waits Nullable(UInt64) COMMENT 'Times a thread was given a CPU over the whole life, each after a wait of any length; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS read_bytes Nullable(UInt64) COMMENT 'Bytes that read(2) and its kin gave over the whole life, from wherever; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS written_bytes Nullable(UInt64) COMMENT 'Bytes that write(2) and its kin took over the whole life, to wherever; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS read_operations Nullable(UInt64) COMMENT 'Calls of read(2) and its kin over the whole life; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS write_operations Nullable(UInt64) COMMENT 'Calls of write(2) and its kin over the whole life; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS disk_read_bytes Nullable(UInt64) COMMENT 'Bytes fetched from storage over the whole life; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS disk_written_bytes Nullable(UInt64) COMMENT 'Bytes sent towards storage over the whole life; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS namespace_pid Nullable(UInt32) COMMENT 'Process id in its own pid namespace; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS parent_start_boottime_ns Nullable(UInt64) COMMENT 'Start of the parent, nanoseconds since boot: with parent_pid its identity; NULL when not known' CODEC(ZSTD(1)),
    COMMENT COLUMN source 'How it was measured: ebpf (every process, exact), ebpf_quiet (the same with peaks as the kernel notes them) or proc (sampled)'
