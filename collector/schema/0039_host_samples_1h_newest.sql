-- What an audit and a list of hosts tell, beside sums: an hour that is read in place of its snapshots has to say the same.
-- Rows from before these columns have them empty.
ALTER TABLE host_samples_1h
    ADD COLUMN IF NOT EXISTS agent_ids Array(UUID) COMMENT 'Identities of the agents that measured' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS newest Tuple(agent_id UUID, interval_ns UInt64, agent_version String, kernel_release String, architecture String, cpus Nullable(UInt32), memory_total_bytes Nullable(UInt64), memory_available_bytes Nullable(UInt64), processes Nullable(UInt32), threads Nullable(UInt32), cpu_percent Nullable(Float64), agent_rss_bytes Nullable(UInt64)) COMMENT 'What the newest snapshot says: agent, length of its interval in nanoseconds, versions, CPUs online, memory of the machine and MemAvailable in bytes, processes and threads alive, CPU time of processes and kernel threads in percent of one CPU, resident set of the agent in bytes; NULL what it does not know' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS audits UInt64 COMMENT 'Snapshots with an audit' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS kernel_budget_ppm Nullable(UInt64) COMMENT 'What the programs in the kernel may take as it was told last, parts per million of CPUs x wall; NULL when never known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS attach_ns Nullable(UInt64) COMMENT 'Time that a program costs by being attached as it was told last, nanoseconds a run; NULL when never known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS program_names Array(String) COMMENT 'Programs in the kernel by their tracepoints, those that never ran too' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS agent_cpu_known_ns UInt64 COMMENT 'Length of the intervals in which the CPU time of the agent was known, nanoseconds' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS agent_drains UInt64 COMMENT 'Snapshots of which it is known how long the drain took' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS agent_max_drain_ns Nullable(UInt64) COMMENT 'The longest drain of the kernel maps, nanoseconds; NULL when never known' CODEC(T64, ZSTD(1))
