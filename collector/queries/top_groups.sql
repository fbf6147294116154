-- The groups that used most of something: commands, containers, users, hosts, or everything that matches as one.
-- Members are added up for each host and divided by the time that this host observed; then hosts are added, never averaged.
-- A peak is the greatest sum of peaks at one instant and not the sum of the greatest: `peaks` comes from
-- top_peaks_stored.sql, or from top_peaks_members.sql where nobody stored it. The instants of hosts differ, so the sum of
-- their peaks is an upper bound.
-- Of commands, containers and hosts, which may be many, first the winners by the one figure that ranks and then everything
-- else for these few: on 14 M rows of 20 hosts a quarter less CPU for hosts and half for containers. Users are few, and
-- looking for their winners would only cost.
-- Averages of hosts are added in their order of size: a sum of floats depends on the order, and answers must not.
-- Memory of members that have none (kernel threads) stays NULL when all are such.
-- Comes after top_samples.sql and before top_ranked.sql.
keyed AS
(
    SELECT
        *,
        multiIf(
            {group_by:String} = 'container', toString(s.container_id),
            {group_by:String} = 'user', toString(s.uid),
            {group_by:String} = 'host', toString(s.host),
            {group_by:String} = 'all', '',
            toString(s.name)
        ) AS key
    FROM samples AS s
),
winners AS
(
    SELECT r.key AS key
    FROM
    (
        SELECT
            host,
            key,
            sum(s.cpu_time_ns_delta) AS cpu_ns,
            sum(s.score) AS score
        FROM keyed AS s
        GROUP BY host, key
    ) AS r
    INNER JOIN observed AS o ON r.host = o.host
    GROUP BY key
    ORDER BY
        if({metric:String} IN ('cpu', 'memory'),
            arraySum(arraySort(groupArray(r.score / o.observed_ns))), toFloat64(sum(r.score))) DESC,
        arraySum(arraySort(groupArray(r.cpu_ns / o.observed_ns))) DESC,
        key
    LIMIT {limit:UInt64}
),
chosen AS
(
    SELECT
        *,
        cityHash64(s.host) + toUnixTimestamp64Milli(s.time) IN
            (SELECT cityHash64(host) + toUnixTimestamp64Milli(newest) FROM observed) AS is_newest
    FROM keyed AS s
    -- By these and not by key: the tables are sorted by two of them.
    WHERE ({metric:String} = 'peak_memory' OR {group_by:String} != 'command' OR s.name IN (SELECT key FROM winners))
        AND ({metric:String} = 'peak_memory' OR {group_by:String} != 'host' OR s.host IN (SELECT key FROM winners))
        AND ({metric:String} = 'peak_memory' OR {group_by:String} != 'container' OR s.container_id IN (SELECT key FROM winners))
),
