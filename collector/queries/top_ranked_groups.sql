-- What each group used on each host of the one figure that ranks: everything else is read for a few alone.
-- SCORE is the one that ranks, and all that is read. Comes after top_pieces_end.sql.
SELECT
    toString(s.host) AS ran_on,
    toString(s.key) AS member_of,
    toFloat64(sum(SCORE)) AS score,
    toFloat64(sum(s.cpu_time_ns_delta)) AS cpu_ns
FROM pieces AS s
GROUP BY s.host, s.key
LIMIT {limit:UInt64}
