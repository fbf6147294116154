-- Whether the groups of an hour are in group_samples_1h, as group_sums of host_samples_1m says it of a minute.
ALTER TABLE host_samples_1h
    ADD COLUMN IF NOT EXISTS group_sums Bool DEFAULT false COMMENT 'The sums of all groups of this window, of this version, are in group_samples_1h' CODEC(T64, ZSTD(1))
