-- How much of a range each host has observed, what was lost and how it was measured. Hosts that were seen shortly
-- before the range but not in it appear with nothing observed, so that silence lowers the coverage.
-- An interval counts where it ends, as it does in every figure: what is not observed is what the figures lack.
-- The median is one of a bounded sample, so that a long range needs no more memory.
-- `newest_ms` is where the last interval of the range ended; 0: there is none.
-- `first_ms` is where the first interval began that is read here: a host that began within the range may be new.
SELECT
    host,
    min(toUnixTimestamp64Milli(h.time) - intDiv(toInt64(interval_ns), 1000000)) AS first_ms,
    toUnixTimestamp64Milli(maxIf(h.time, h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))) AS newest_ms,
    sumIf(interval_ns, h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')) AS observed_ns,
    toUInt64(median(interval_ns)) AS usual_interval_ns,
    mapKeys(sumMapIf(losses, h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))) AS loss_reasons,
    mapValues(sumMapIf(losses, h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))) AS loss_counts,
    arraySort(groupUniqArrayArrayIf(
        arrayConcat([toString(h.source)], h.sources),
        h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    )) AS all_sources
FROM host_samples AS h
WHERE h.time > fromUnixTimestamp64Milli({before_ms:Int64}, 'UTC')
    AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND toStartOfHour(h.time) >= toStartOfHour(fromUnixTimestamp64Milli({before_ms:Int64}, 'UTC'))
    AND toStartOfHour(h.time) <= toStartOfHour(fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
    AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
GROUP BY host
ORDER BY host
