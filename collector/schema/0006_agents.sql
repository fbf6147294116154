-- How far each epoch of each agent is stored. A cache that spares a collector that takes an agent over from reading the
-- whole ledger in the sample tables; never the truth, which is the rows themselves.
CREATE TABLE IF NOT EXISTS agents
(
    agent_id UUID COMMENT 'Identity of the agent',
    epoch UInt64 COMMENT 'Random number of one life of the agent',
    host LowCardinality(String) COMMENT 'Name of the host in the newest snapshot',
    agent_version LowCardinality(String) COMMENT 'Version of the agent; empty when not known',
    durable_seq UInt64 COMMENT 'Every snapshot of the epoch up to and with this one is stored in all tables',
    time DateTime64(3, 'UTC') COMMENT 'End of the interval of that snapshot, by the wall clock of the host',
    updated_at DateTime64(3, 'UTC') COMMENT 'When this row was written, by the clock of the collector; the newest row wins'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (agent_id, epoch)
TTL toDateTime(updated_at) + INTERVAL 35 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Agents, their epochs and how far each is stored'
