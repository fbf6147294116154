-- One lease for each of these epochs, behind all that were taken of it. Of two that are taken at once with one number,
-- the greater instance holds the epoch.
INSERT INTO leases (agent_id, epoch, number, instance, taken_at)
SELECT
    w.wanted.1,
    w.wanted.2,
    greatest(toUInt64(toUnixTimestamp64Micro(now64(6))), l.last + 1),
    {instance:UUID},
    now64(3)
FROM (SELECT arrayJoin(arrayZip({agents:Array(UUID)}, {epochs:Array(UInt64)})) AS wanted) AS w
LEFT JOIN
(
    SELECT agent_id, epoch, max(number) AS last
    FROM leases
    WHERE epoch IN {epochs:Array(UInt64)}
    GROUP BY agent_id, epoch
) AS l ON w.wanted.1 = l.agent_id AND w.wanted.2 = l.epoch
