-- Minutes of processes, where the range has whole ones.
    UNION ALL
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
        alive_ns,
        rss_byte_ns,
        toDateTime64(window, 3, 'UTC') AS instant,
        false AS sampled
    FROM process_samples_1m AS r FINAL
    WHERE (
            (r.window >= toDateTime(intDiv({head_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({hours_from_ms:Int64}, 1000), 'UTC'))
            OR (r.window >= toDateTime(intDiv({hours_to_ms:Int64}, 1000), 'UTC') AND r.window < toDateTime(intDiv({tail_ms:Int64}, 1000), 'UTC'))
        )
        AND cityHash64(r.host) + toUnixTimestamp(r.window) NOT IN (SELECT arrayJoin({stale_minutes:Array(UInt64)}))
        AND (empty({hosts:Array(String)}) OR host IN {hosts:Array(String)})
        AND (empty({name_contains:String}) OR positionCaseInsensitiveUTF8(r.name, {name_contains:String}) > 0)
        AND (empty({name_prefix:String}) OR startsWith(r.name, {name_prefix:String}))
        AND (empty({name_regex:String}) OR match(r.name, {name_regex:String}))
