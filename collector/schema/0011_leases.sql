-- Which collector takes which epoch: the row with the greatest number holds it, and the store refuses the inserts of
-- every other (queries/fence.sql). A row is written when an epoch comes to a collector that does not hold it, never to
-- renew one. The fence reads the rows since the oldest lease of its collector, so the number comes first in the key.
CREATE TABLE IF NOT EXISTS leases
(
    agent_id UUID COMMENT 'Identity of the agent' CODEC(ZSTD(1)),
    epoch UInt64 COMMENT 'Random number of one life of the agent' CODEC(ZSTD(1)),
    number UInt64 COMMENT 'The greatest holds the epoch: microseconds since 1970 by the clock of the store, or one more than the lease before it' CODEC(Delta, ZSTD(1)),
    instance UUID COMMENT 'The collector, random at each of its starts' CODEC(ZSTD(1)),
    taken_at DateTime64(3, 'UTC') COMMENT 'When the lease was taken, by the clock of the store' CODEC(Delta, ZSTD(1)),
    INDEX epoch_bloom epoch TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY number
TTL toDateTime(taken_at) + INTERVAL 35 DAY
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Which collector takes which epoch of which agent'
