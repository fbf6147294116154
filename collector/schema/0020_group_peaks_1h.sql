-- The greatest sum of peaks of all members of a group within an hour, which cannot be made from the peaks of its
-- members afterwards. Computed from group_peaks_1m as process_samples_1h from its minutes.
CREATE TABLE IF NOT EXISTS group_peaks_1h
(
    host LowCardinality(String) COMMENT 'Name of the host',
    window DateTime('UTC') COMMENT 'Begin of the window; it covers the samples whose time lies in (window, window + 1 hour]' CODEC(Delta, ZSTD(1)),
    version UInt64 COMMENT 'Snapshots of the window that the computation saw at least; the greatest wins' CODEC(T64, ZSTD(1)),
    group_by LowCardinality(String) COMMENT 'What makes a group: command, container, user or host',
    key LowCardinality(String) COMMENT 'Name of the command, container id, user id or name of the host',
    peak_rss_bytes Nullable(UInt64) COMMENT 'Greatest sum of the peaks of resident sets of all members in one interval, bytes; NULL when never known' CODEC(Delta, ZSTD(1)),
    open_file_descriptors Nullable(UInt64) COMMENT 'Greatest sum of the file descriptors that all members had open at the end of one interval; NULL when never known' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window)
ORDER BY (toStartOfDay(window), group_by, host, key, window)
TTL window + INTERVAL 365 DAY
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'The greatest memory of each command, container, user and host in each hour'
