-- Whether the groups of a minute are in group_samples_1m. What was computed before that table was, or by a collector that does
-- not know it, has them in no table but process_samples_1m.
ALTER TABLE host_samples_1m
    ADD COLUMN IF NOT EXISTS group_sums Bool DEFAULT false COMMENT 'The sums of all groups of this window, of this version, are in group_samples_1m' CODEC(T64, ZSTD(1))
