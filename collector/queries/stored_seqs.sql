-- The ledger: which snapshots of these epochs each table holds, from a number of each on, as runs without gaps.
-- Every insert is whole or absent, so one row of a snapshot in a table proves all of its rows there.
WITH transform(epoch, {epochs:Array(UInt64)}, {from_seqs:Array(UInt64)}, toUInt64(0)) AS from_seq
SELECT
    toString(agent_id) AS agent,
    epoch,
    place,
    min(seq) AS first_seq,
    max(seq) AS last_seq
FROM
(
    SELECT
        agent_id,
        epoch,
        place,
        seq,
        seq - row_number() OVER (PARTITION BY agent_id, epoch, place ORDER BY seq) AS run
    FROM
    (
        SELECT DISTINCT agent_id, epoch, toUInt8(0) AS place, seq FROM process_samples
        WHERE epoch IN {epochs:Array(UInt64)} AND agent_id IN {agents:Array(UUID)} AND seq >= from_seq
        UNION ALL
        SELECT DISTINCT agent_id, epoch, toUInt8(1) AS place, seq FROM process_exits
        WHERE epoch IN {epochs:Array(UInt64)} AND agent_id IN {agents:Array(UUID)} AND seq >= from_seq
        UNION ALL
        SELECT DISTINCT agent_id, epoch, toUInt8(2) AS place, seq FROM processes
        WHERE epoch IN {epochs:Array(UInt64)} AND agent_id IN {agents:Array(UUID)} AND seq >= from_seq
        UNION ALL
        SELECT DISTINCT agent_id, epoch, toUInt8(3) AS place, seq FROM host_samples
        WHERE epoch IN {epochs:Array(UInt64)} AND agent_id IN {agents:Array(UUID)} AND seq >= from_seq
        UNION ALL
        SELECT DISTINCT agent_id, epoch, toUInt8(4) AS place, seq FROM set_aside
        WHERE epoch IN {epochs:Array(UInt64)} AND agent_id IN {agents:Array(UUID)} AND seq >= from_seq
    )
)
GROUP BY agent_id, epoch, place, run
ORDER BY agent_id, epoch, place, first_seq
