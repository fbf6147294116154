-- The columns of our tables as the store has them, to be compared with what we are about to write: the store drops
-- columns of a block that it does not know without a word.
SELECT table, name, type
FROM system.columns
WHERE database = {database:String}
ORDER BY table, name
