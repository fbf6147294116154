-- Refuses an insert whose epochs another collector has taken since: it stores nothing of any of them. The question is
-- asked when the insert begins, and one that began before the lease was taken is seen by who took it (running_inserts.sql).
-- Stands behind `INSERT INTO … SELECT … FROM input(…)` and before `FORMAT Native`.
WHERE NOT throwIf(
    (agent_id, epoch) IN
    (
        SELECT agent_id, epoch
        FROM leases
        WHERE number >= {since:UInt64}
        GROUP BY agent_id, epoch
        HAVING argMax(instance, (number, instance)) != {instance:UUID}
    ),
    'another collector holds an epoch of this insert'
)
