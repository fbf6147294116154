-- The ledger: which snapshots of an epoch each table holds, from one number on, as runs without gaps.
-- Every insert is whole or absent, so one row of a snapshot in a table proves all of its rows there.
SELECT
    place,
    min(seq) AS first_seq,
    max(seq) AS last_seq
FROM
(
    SELECT place, seq, seq - row_number() OVER (PARTITION BY place ORDER BY seq) AS run
    FROM
    (
        SELECT DISTINCT toUInt8(0) AS place, seq FROM process_samples
        WHERE agent_id = {agent_id:UUID} AND epoch = {epoch:UInt64} AND seq >= {from_seq:UInt64}
        UNION ALL
        SELECT DISTINCT toUInt8(1) AS place, seq FROM process_exits
        WHERE agent_id = {agent_id:UUID} AND epoch = {epoch:UInt64} AND seq >= {from_seq:UInt64}
        UNION ALL
        SELECT DISTINCT toUInt8(2) AS place, seq FROM processes
        WHERE agent_id = {agent_id:UUID} AND epoch = {epoch:UInt64} AND seq >= {from_seq:UInt64}
        UNION ALL
        SELECT DISTINCT toUInt8(3) AS place, seq FROM host_samples
        WHERE agent_id = {agent_id:UUID} AND epoch = {epoch:UInt64} AND seq >= {from_seq:UInt64}
        UNION ALL
        SELECT DISTINCT toUInt8(4) AS place, seq FROM set_aside
        WHERE agent_id = {agent_id:UUID} AND epoch = {epoch:UInt64} AND seq >= {from_seq:UInt64}
    )
)
GROUP BY place, run
ORDER BY place, first_seq
