-- The same as coverage.sql for a range that is cut into samples, minutes and hours (top_snapshots.sql). A host that is new
-- begins with its first window here; first_seen.sql tells when it really did.
SELECT
    host,
    min(p.begin_ms) AS first_ms,
    max(p.inside_ms) AS newest_ms,
    sum(p.inside_ns) AS observed_ns,
    toUInt64(median(p.usual_ns)) AS usual_interval_ns,
    mapKeys(sumMap(p.losses)) AS loss_reasons,
    mapValues(sumMap(p.losses)) AS loss_counts,
    arraySort(groupUniqArrayArray(p.ways)) AS all_sources
FROM
(
