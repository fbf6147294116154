-- Executable and command line of the few processes that an answer shows: the newest description of each.
SELECT
    toString(process_id) AS id,
    argMax(p.exe, (p.exec_generation, p.received_at)) AS exe,
    argMax(p.cmdline, (p.exec_generation, p.received_at)) AS cmdline
FROM processes AS p
WHERE process_id IN (SELECT toUUIDOrZero(arrayJoin({process_ids:Array(String)})))
GROUP BY process_id
