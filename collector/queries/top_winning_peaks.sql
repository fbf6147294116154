-- The groups whose peaks are the greatest: the instants of hosts differ, so the sum of their peaks is an upper bound.
-- Comes after `peaks`.
SELECT k.key AS id, groupArray(k.host) AS member_hosts
FROM peaks AS k
GROUP BY id
ORDER BY ifNull(toFloat64(sum(k.peak_bytes)), -1) DESC, id
LIMIT {limit:UInt64}
