-- How much of a range each host observed: the rule of `coverage` in every answer. A host that was seen in the five minutes
-- before a range belongs to it even when it is silent in it. It counts from the start of the range, and so does one that was
-- ever seen before; a new one from its first interval. An interval counts whole where it ends, at most the time that the host
-- counts for.
-- What was seen more than a day before is looked up in hours.
-- More than six hours are read from minutes, with samples before the first whole one and after the last that is computed.
CREATE VIEW IF NOT EXISTS host_coverage AS
WITH
    CAST({start:DateTime64(3, 'UTC')}, 'DateTime64(3, \'UTC\')') AS starts,
    CAST({end:DateTime64(3, 'UTC')}, 'DateTime64(3, \'UTC\')') AS ends,
    subtractMinutes(starts, 5) AS before,
    if(
        dateDiff('second', starts, ends) > 21600,
        toDateTime64(toStartOfMinute(addMilliseconds(starts, 59999)), 3, 'UTC'),
        ends
    ) AS head,
    greatest(
        head,
        (
            SELECT toDateTime64(max(w.window) + 60, 3, 'UTC')
            FROM host_samples_1m AS w
            WHERE w.window >= head AND w.window <= subtractSeconds(ends, 60)
        )
    ) AS tail
SELECT
    c.host AS host,
    if(
        c.first_ms > toUnixTimestamp64Milli(starts) AND c.host NOT IN
        (
            SELECT h.host FROM host_samples AS h WHERE h.time <= before AND h.time > subtractDays(before, 1)
            UNION DISTINCT
            SELECT w.host FROM host_samples_1h AS w WHERE w.window <= subtractHours(before, 1)
        ),
        fromUnixTimestamp64Milli(c.first_ms, 'UTC'),
        starts
    ) AS counts_from,
    (toUnixTimestamp64Milli(ends) - toUnixTimestamp64Milli(counts_from)) / 1000 AS total_seconds,
    least(c.observed_ns / 1e9, total_seconds) AS observed_seconds,
    observed_seconds / total_seconds AS coverage
FROM
(
    SELECT p.host AS host, min(p.begin_ms) AS first_ms, sum(p.inside_ns) AS observed_ns
    FROM
    (
        SELECT
            s.host AS host,
            toUnixTimestamp64Milli(s.time) - intDiv(toInt64(s.interval_ns), 1000000) AS begin_ms,
            if(s.time > starts, s.interval_ns, 0) AS inside_ns
        FROM host_samples AS s
        WHERE (s.time > before AND s.time <= head) OR (s.time > tail AND s.time <= ends)
        UNION ALL
        SELECT m.host AS host, toInt64(toUnixTimestamp(m.window)) * 1000 AS begin_ms, m.observed_ns AS inside_ns
        FROM host_samples_1m AS m FINAL
        WHERE m.window >= head AND m.window < tail
    ) AS p
    WHERE {host:String} = '' OR p.host = {host:String}
    GROUP BY p.host
) AS c
COMMENT 'How much of a range each host observed: host_coverage(host = ''h'' or '''', start = …, end = …)'
