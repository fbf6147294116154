-- The groups that used most of something: commands, containers, pods, users, hosts, or everything that matches as one.
-- Members are added up for each host and divided by the time that this host observed; then hosts are added, never averaged.
-- A peak is the greatest sum of peaks at one instant and not the sum of the greatest: `peaks` comes from
-- top_peaks_stored.sql, or from top_peaks_instants.sql or top_peaks_members.sql where nobody stored it. The instants of
-- hosts differ, so the sum of their peaks is an upper bound.
-- Averages of hosts are added in their order of size: a sum of floats depends on the order, and answers must not.
-- Memory of members that have none (kernel threads) stays NULL when all are such.
-- Comes after top_pieces_end.sql and before top_ranked.sql.
chosen AS
(
    SELECT
        *,
        cityHash64(s.host) + toUnixTimestamp64Milli(s.time) IN
            (SELECT cityHash64(host) + toUnixTimestamp64Milli(newest) FROM observed) AS is_newest
    FROM pieces AS s
),
