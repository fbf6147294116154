-- Who holds these epochs, and since which number. One that nobody ever took is not in the answer.
SELECT
    toString(agent_id) AS agent,
    epoch,
    toString(argMax(instance, (number, instance))) AS holder,
    max(number) AS last
FROM leases
WHERE epoch IN {epochs:Array(UInt64)}
GROUP BY agent_id, epoch
