-- Snapshots that the store refuses for good, byte for byte as the agent sent them, so that one bad snapshot stops no
-- other, its agent may forget it, and a person can see why and replay it.
CREATE TABLE IF NOT EXISTS set_aside
(
    agent_id UUID COMMENT 'Identity of the agent that measured',
    epoch UInt64 COMMENT 'Random number of one life of the agent',
    seq UInt64 COMMENT 'Number of the snapshot within the epoch',
    host LowCardinality(String) COMMENT 'Name of the host',
    time DateTime64(3, 'UTC') COMMENT 'End of the interval, by the wall clock of the host',
    reason String COMMENT 'Why the store refused it',
    snapshot String COMMENT 'The encoded procscope.v1.Snapshot' CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') COMMENT 'When the collector received the snapshot, by the clock of the collector',
    INDEX epoch_bloom epoch TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (agent_id, epoch, seq)
TTL toDateTime(time) + INTERVAL 35 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Snapshots that the store refused for good, as they were sent'
