-- Groups: commands, containers, pods, users, hosts, or everything that matches as one.
-- A peak is the greatest sum of peaks at one instant and not the sum of the greatest: `peaks` comes from
-- top_peaks_stored.sql, or from top_peaks_members.sql where nobody stored it.
-- Comes after top_pieces_end.sql and before top_group_figures.sql.
chosen AS
(
    SELECT
        *,
        cityHash64(s.host) + toUnixTimestamp64Milli(s.time) IN
            (SELECT cityHash64(host) + toUnixTimestamp64Milli(newest) FROM observed) AS is_newest
    FROM pieces AS s
),
