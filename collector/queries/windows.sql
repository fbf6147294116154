-- What the minutes and hours of a range are worth: which of them were computed of fewer snapshots than there are now, as
-- one number for host and window, and digests of all that were computed. When they are the same after a question as before,
-- nothing was computed while that was answered: the rows of processes come a moment before the row of their host.
-- A window whose newest row does not say that its groups were summed up has no sums, whatever there is of an older one.
-- The counts come from projections of host_samples (0016), which are as much as a row for each minute or hour; they know
-- no `time`, so its partitions are named.
SELECT
    groupArrayIf(w.number, w.stale AND NOT w.is_hour) AS stale_minutes,
    groupArrayIf(w.number, w.stale AND w.is_hour) AS stale_hours,
    minIf(toInt64(w.window), w.stale) * 1000 AS stale_from_ms,
    maxIf(toInt64(w.window) + if(w.is_hour, 3600, 60), w.stale) * 1000 AS stale_to_ms,
    groupBitXorIf(cityHash64(w.number, w.version), NOT w.is_hour) AS minutes_digest,
    groupBitXorIf(cityHash64(w.number, w.version), w.is_hour) AS hours_digest,
    countIf(NOT w.is_hour) AS minutes,
    sumIf(w.snapshots, NOT w.is_hour) AS minute_snapshots,
    countIf(NOT w.stale AND w.summed < w.version) AS without_sums
FROM
(
    SELECT
        cityHash64(a.host) + a.window AS number,
        a.window AS window,
        a.is_hour AS is_hour,
        max(a.version) AS version,
        max(a.summed) AS summed,
        max(a.snapshots) AS snapshots,
        snapshots > version AS stale
    FROM
    (
        SELECT host, toUnixTimestamp(toStartOfMinute(subtractMilliseconds(time, 1))) AS window, false AS is_hour, count() AS snapshots, 0 AS version, 0 AS summed
        FROM host_samples
        WHERE _partition_id >= toString(toYYYYMMDD(fromUnixTimestamp64Milli({head_ms:Int64}, 'UTC')))
            AND _partition_id <= toString(toYYYYMMDD(fromUnixTimestamp64Milli({tail_ms:Int64}, 'UTC')))
            AND (
                (toStartOfMinute(subtractMilliseconds(time, 1)) >= toDateTime(intDiv({head_ms:Int64}, 1000), 'UTC')
                    AND toStartOfMinute(subtractMilliseconds(time, 1)) < toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC'))
                OR (toStartOfMinute(subtractMilliseconds(time, 1)) >= toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC')
                    AND toStartOfMinute(subtractMilliseconds(time, 1)) < toDateTime(intDiv({tail_ms:Int64}, 1000), 'UTC'))
            )
            AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
        GROUP BY host, toStartOfMinute(subtractMilliseconds(time, 1))
        UNION ALL
        SELECT host, toUnixTimestamp(toStartOfHour(subtractMilliseconds(time, 1))) AS window, true AS is_hour, count() AS snapshots, 0 AS version, 0 AS summed
        FROM host_samples
        WHERE _partition_id >= toString(toYYYYMMDD(fromUnixTimestamp64Milli({hours_from_ms:Int64}, 'UTC')))
            AND _partition_id <= toString(toYYYYMMDD(fromUnixTimestamp64Milli({hours_to_ms:Int64}, 'UTC')))
            AND toStartOfHour(subtractMilliseconds(time, 1)) >= toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC')
            AND toStartOfHour(subtractMilliseconds(time, 1)) < toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC')
            AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
        GROUP BY host, toStartOfHour(subtractMilliseconds(time, 1))
        UNION ALL
        SELECT host, toUnixTimestamp(r.window) AS window, false AS is_hour, 0 AS snapshots, r.version AS version, if(r.group_sums, r.version, 0) AS summed
        FROM host_samples_1m AS r
        WHERE (
                (r.window >= toDateTime(intDiv({head_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC'))
                OR (r.window >= toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({tail_ms:Int64}, 1000), 'UTC'))
            )
            AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
        UNION ALL
        SELECT host, toUnixTimestamp(r.window) AS window, true AS is_hour, 0 AS snapshots, r.version AS version, if(r.group_sums, r.version, 0) AS summed
        FROM host_samples_1h AS r
        WHERE r.window >= toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC')
            AND r.window < toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC')
            AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
    ) AS a
    GROUP BY a.host, a.window, a.is_hour
) AS w
