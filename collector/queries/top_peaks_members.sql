-- `peaks` of groups that nobody stored: from the members at each instant. Where only minutes or hours are left, a member's
-- peak counts for all of its window, which makes the sum an upper bound.
-- Comes between top_groups.sql and top_group_figures.sql.
peaks AS
(
    SELECT host, key, max(a.peak_bytes) AS peak_bytes, max(a.descriptors) AS peak_descriptors
    FROM
    (
        SELECT toString(host) AS host, toString(key) AS key, sum(s.peak_rss_bytes) AS peak_bytes, sum(s.open_file_descriptors) AS descriptors
        FROM chosen AS s
        GROUP BY host, key, instant
    ) AS a
    GROUP BY host, key
),
