-- `observed`: how long each host was, and its newest instant. `samples`: the rows that count, each with its `score` in
-- the figure that ranks; that of peak memory is no sum and is not here.
-- top_groups.sql or top_processes.sql come after this text, and top_ranked.sql after them.
-- A snapshot counts once its row in host_samples exists: that is written last, and until then its time is not observed.
-- Host and time as one number name it: on 14 M rows a fifth more CPU, where (epoch, seq) takes up to three times as long.
WITH snapshots AS
(
    SELECT host, time, interval_ns, agent_id, epoch, boot_id
    FROM host_samples AS h
    WHERE h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
),
observed AS
(
    SELECT host, sum(interval_ns) AS observed_ns, max(time) AS newest
    FROM snapshots
    GROUP BY host
),
samples AS
(
    SELECT
        *,
        if({metric:String} = 'memory', toFloat64(ifNull(s.rss_bytes, 0)) * s.interval_ns,
            if({metric:String} = 'runqueue', toFloat64(ifNull(s.runqueue_ns_delta, 0)),
                if({metric:String} = 'faults', toFloat64(ifNull(s.minor_faults_delta, 0)) + ifNull(s.major_faults_delta, 0),
                    if({metric:String} = 'switches',
                        toFloat64(ifNull(s.voluntary_switches_delta, 0)) + ifNull(s.involuntary_switches_delta, 0),
                        if({metric:String} = 'io',
                            toFloat64(ifNull(s.disk_read_bytes_delta, 0)) + ifNull(s.disk_written_bytes_delta, 0),
                            toFloat64(s.cpu_time_ns_delta)))))) AS score
    FROM process_samples AS s
    WHERE s.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND s.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
        AND cityHash64(s.host) + toUnixTimestamp64Milli(s.time) IN
            (SELECT cityHash64(host) + toUnixTimestamp64Milli(time) FROM snapshots)
        AND (empty({name_contains:String}) OR positionCaseInsensitiveUTF8(s.name, {name_contains:String}) > 0)
        AND (empty({name_prefix:String}) OR startsWith(s.name, {name_prefix:String}))
        AND (empty({name_regex:String}) OR match(s.name, {name_regex:String}))
),
