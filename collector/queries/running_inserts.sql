-- Inserts into the tables of the ledger that run now: those of one collector (`own`) or of all others, and of these only
-- the ones of an earlier look that still run. Each may commit until it has left this list. Every collector names itself
-- in `log_comment`, which a server and the embedded engine both show; the embedded one gives queries ids of its own.
SELECT query_id, Settings['log_comment'] AS comment
FROM system.processes
WHERE query_kind = 'Insert'
    AND match(query, '^INSERT INTO (process_samples|process_exits|processes|host_samples|set_aside) ')
    AND (position(Settings['log_comment'], {instance:String}) > 0) = {own:Bool}
    AND (empty({among:Array(String)}) OR has({among:Array(String)}, query_id))
