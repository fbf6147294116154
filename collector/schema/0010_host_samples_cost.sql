-- What measuring costs in the kernel, program by program, against its budget; and every way in which rows of a snapshot
-- were measured, so that coverage tells it without reading them.
ALTER TABLE host_samples
    ADD COLUMN IF NOT EXISTS sources Array(String) COMMENT 'All ways in which rows of this snapshot were measured: that of the snapshot, and of rows that have another; empty in rows from before this column' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS kernel_ppm Nullable(UInt64) COMMENT 'Share of the machine that the programs in the kernel took within the interval, parts per million of CPUs x wall; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS kernel_budget_ppm Nullable(UInt64) COMMENT 'What the programs in the kernel may take, parts per million of CPUs x wall; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS attach_ns Nullable(UInt64) COMMENT 'Time that a program costs by being attached, beside its own, nanoseconds a run, measured at start; NULL when not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS program_names Array(String) COMMENT 'Programs in the kernel by their tracepoints; empty when none runs or nobody told' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS program_runs Array(UInt64) COMMENT 'How often each of program_names ran within the interval' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS program_run_ns Array(UInt64) COMMENT 'Time of each of program_names within the interval, nanoseconds, extrapolated from the runs that are timed' CODEC(ZSTD(1)),
    COMMENT COLUMN source 'How it was measured: ebpf (every process, exact), ebpf_quiet (the same with peaks as the kernel notes them) or proc (sampled)'
