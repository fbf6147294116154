-- What has been applied to this database, so that each file of this folder runs once and a file that was changed
-- afterwards is noticed. IF NOT EXISTS everywhere: a crash between a statement and its row here repeats the
-- statement, and that must not matter.
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32 COMMENT 'Number of the migration, as in its file name',
    name String COMMENT 'File name of the migration',
    checksum String COMMENT 'SHA-256 of the file, lower-case hex',
    applied_at DateTime64(3, 'UTC') COMMENT 'When it was applied, by the clock of the collector'
)
ENGINE = MergeTree
ORDER BY number
COMMENT 'Schema migrations that were applied; written by procscope-collector migrate'
