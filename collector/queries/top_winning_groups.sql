-- The groups that used most, by the one figure that ranks: everything else is read for these few alone.
-- SCORE is the one that ranks, and all that is read. Comes after top_pieces_end.sql.
SELECT toString(r.key) AS id, groupArray(toString(r.host)) AS member_hosts
FROM
(
    SELECT
        host,
        key,
        sum(s.cpu_time_ns_delta) AS cpu_ns,
        sum(SCORE) AS score
    FROM pieces AS s
    GROUP BY host, key
) AS r
INNER JOIN observed AS o ON r.host = o.host
GROUP BY r.key
ORDER BY
    if({metric:String} IN ('cpu', 'memory'),
        arraySum(arraySort(groupArray(r.score / o.observed_ns))), toFloat64(sum(r.score))) DESC,
    arraySum(arraySort(groupArray(r.cpu_ns / o.observed_ns))) DESC,
    id
LIMIT {limit:UInt64}
