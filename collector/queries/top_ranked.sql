-- The end of top_groups.sql: the most first.
ORDER BY
    multiIf(
        {metric:String} = 'memory', ifNull(avg_memory_mb, -1),
        {metric:String} = 'peak_memory', ifNull(peak_memory_mb, -1),
        {metric:String} = 'runqueue', ifNull(runqueue_seconds, -1),
        {metric:String} = 'faults', toFloat64(ifNull(minor_faults, 0)) + ifNull(major_faults, 0),
        {metric:String} = 'switches', toFloat64(ifNull(voluntary_switches, 0)) + ifNull(involuntary_switches, 0),
        {metric:String} = 'io', toFloat64(ifNull(disk_read_bytes, 0)) + ifNull(disk_written_bytes, 0),
        avg_cpu_percent
    ) DESC,
    avg_cpu_percent DESC,
    ifNull(process_id, name)
LIMIT {limit:UInt64}
