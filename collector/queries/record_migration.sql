-- Remembers that a migration was applied.
INSERT INTO schema_migrations (number, name, checksum, applied_at)
SELECT {number:UInt32}, {name:String}, {checksum:String}, fromUnixTimestamp64Milli({applied_at_ms:Int64}, 'UTC')
