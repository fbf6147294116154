-- `samples`: the pieces, each with its `score` in the figure that ranks; that of peak memory is no sum and is not here.
),
samples AS
(
    SELECT
        *,
        multiIf(
            {metric:String} = 'memory', ifNull(p.rss_byte_ns, toUInt128(0)),
            {metric:String} = 'runqueue', toUInt128(ifNull(p.runqueue_ns_delta, 0)),
            {metric:String} = 'faults', toUInt128(ifNull(p.minor_faults_delta, 0) + ifNull(p.major_faults_delta, 0)),
            {metric:String} = 'switches', toUInt128(ifNull(p.voluntary_switches_delta, 0) + ifNull(p.involuntary_switches_delta, 0)),
            {metric:String} = 'io', toUInt128(ifNull(p.disk_read_bytes_delta, 0) + ifNull(p.disk_written_bytes_delta, 0)),
            toUInt128(p.cpu_time_ns_delta)
        ) AS score
    FROM pieces AS p
),
