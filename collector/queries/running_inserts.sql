-- Inserts into our tables that run now: all of them, or those of an earlier look that still run. What a collector that
-- has died sent before its end may commit until it has left this list.
SELECT query_id
FROM system.processes
WHERE query_kind = 'Insert'
    AND match(query, '^INSERT INTO (process_samples|process_exits|processes|host_samples|set_aside) ')
    AND (empty({among:Array(String)}) OR has({among:Array(String)}, query_id))
