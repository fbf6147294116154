-- The end of `observed`, and `pieces`: the rows that count, samples first.
    ) AS o
    GROUP BY host
),
pieces AS
(
    SELECT
        host,
        process_id,
        exec_generation,
        name,
        pid,
        uid,
        container_id,
        time,
        parent_pid,
        parent_start_boottime_ns,
        start_boottime_ns,
        start_time,
        namespace_pid,
        cgroup_id,
        kernel_thread,
        exited,
        source,
        state,
        cpu_time_ns,
        cpu_time_ns_delta,
        user_time_ns_delta,
        system_time_ns_delta,
        ended_threads_cpu_time_ns_delta,
        runqueue_ns_delta,
        runqueue_waits_delta,
        voluntary_switches_delta,
        involuntary_switches_delta,
        minor_faults_delta,
        major_faults_delta,
        read_bytes_delta,
        written_bytes_delta,
        read_operations_delta,
        write_operations_delta,
        disk_read_bytes_delta,
        disk_written_bytes_delta,
        runqueue_wait_counts,
        rss_bytes,
        rss_anon_bytes,
        rss_file_bytes,
        rss_shmem_bytes,
        swap_bytes,
        virtual_bytes,
        peak_rss_bytes,
        lifetime_peak_rss_bytes,
        threads,
        open_file_descriptors,
        open_file_descriptor_limit,
        if(exited, 0, interval_ns) AS alive_ns,
        toUInt128(rss_bytes) * interval_ns AS rss_byte_ns,
        time AS instant,
        true AS sampled
    FROM process_samples AS r
    WHERE (
            (r.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({head_ms:Int64}, 'UTC'))
            OR (r.time > fromUnixTimestamp64Milli({tail_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
            OR (r.time > fromUnixTimestamp64Milli({stale_from_ms:Int64}, 'UTC') AND r.time <= fromUnixTimestamp64Milli({stale_to_ms:Int64}, 'UTC')
                AND (cityHash64(r.host) + toUnixTimestamp(toStartOfMinute(subtractMilliseconds(r.time, 1))) IN (SELECT arrayJoin({stale_minutes:Array(UInt64)}))
                    OR cityHash64(r.host) + toUnixTimestamp(toStartOfHour(subtractMilliseconds(r.time, 1))) IN (SELECT arrayJoin({stale_hours:Array(UInt64)}))))
        )
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
        AND cityHash64(r.host) + toUnixTimestamp64Milli(r.time) IN
            (SELECT cityHash64(host) + toUnixTimestamp64Milli(time) FROM snapshots)
        AND (empty({name_contains:String}) OR positionCaseInsensitiveUTF8(r.name, {name_contains:String}) > 0)
        AND (empty({name_prefix:String}) OR startsWith(r.name, {name_prefix:String}))
        AND (empty({name_regex:String}) OR match(r.name, {name_regex:String}))
