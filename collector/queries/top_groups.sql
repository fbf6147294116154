-- The groups that used most of something: commands, containers, users, hosts, or everything that matches as one.
-- Three steps. Members are summed at each instant of each host, because a peak is the greatest sum of peaks and not the
-- sum of the greatest. Instants are then added up for each host and divided by the time that this host observed.
-- Hosts are added last, never averaged; their instants differ, so the sum of their peaks is an upper bound.
-- Of commands, containers and hosts, which may be many, first the winners by the one figure that ranks, without
-- instants, and then everything else for these few: on 14 M rows of 20 hosts a quarter less CPU for hosts and half for
-- containers. Users are few, and looking for their winners would only cost. A rank by peak needs the instants of all.
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
        sum(if({metric:String} IN ('cpu', 'memory'), r.score / o.observed_ns, r.score)) DESC,
        sum(r.cpu_ns / o.observed_ns) DESC,
        key
    LIMIT {limit:UInt64}
),
instants AS
(
    SELECT
        host,
        key,
        s.time AS instant,
        min(s.kernel_thread) AS kernel_only,
        sum(s.cpu_time_ns_delta) AS cpu_ns,
        sum(toFloat64(ifNull(s.rss_bytes, 0)) * s.interval_ns) AS rss_byte_ns,
        sum(s.peak_rss_bytes) AS peak_bytes,
        sumIf(s.interval_ns, NOT s.exited) AS alive_ns,
        sum(s.runqueue_ns_delta) AS runqueue_ns,
        sum(s.voluntary_switches_delta) AS voluntary,
        sum(s.involuntary_switches_delta) AS involuntary,
        sum(s.minor_faults_delta) AS minor,
        sum(s.major_faults_delta) AS major,
        sumIf(s.threads, NOT s.exited) AS threads_now,
        sum(s.rss_bytes) AS rss_now,
        sum(s.user_time_ns_delta) AS user_ns,
        sum(s.system_time_ns_delta) AS system_ns,
        sum(s.runqueue_waits_delta) AS waits,
        sum(s.read_bytes_delta) AS bytes_read,
        sum(s.written_bytes_delta) AS bytes_written,
        sum(s.read_operations_delta) AS reads,
        sum(s.write_operations_delta) AS writes,
        sum(s.disk_read_bytes_delta) AS disk_read,
        sum(s.disk_written_bytes_delta) AS disk_written,
        sum(s.rss_anon_bytes) AS rss_anon_now,
        sum(s.rss_file_bytes) AS rss_file_now,
        sum(s.rss_shmem_bytes) AS rss_shmem_now,
        sum(s.swap_bytes) AS swap_now,
        sum(s.virtual_bytes) AS virtual_now,
        sum(s.open_file_descriptors) AS descriptors,
        sum(s.ended_threads_cpu_time_ns_delta) AS ended_threads_ns,
        sumForEach(s.runqueue_wait_counts) AS wait_counts,
        min(s.source) AS least_source,
        max(s.source) AS greatest_source
    FROM keyed AS s
    -- By these and not by key: the table is sorted by two of them.
    WHERE ({metric:String} = 'peak_memory' OR {group_by:String} != 'command' OR s.name IN (SELECT key FROM winners))
        AND ({metric:String} = 'peak_memory' OR {group_by:String} != 'host' OR s.host IN (SELECT key FROM winners))
        AND ({metric:String} = 'peak_memory' OR {group_by:String} != 'container' OR s.container_id IN (SELECT key FROM winners))
    GROUP BY host, key, instant
),
per_host AS
(
    SELECT
        i.host AS member_host,
        i.key AS key,
        any(o.observed_ns) AS observed_ns,
        min(i.kernel_only) AS kernel_only,
        sum(i.cpu_ns) AS cpu_ns,
        sum(i.rss_byte_ns) AS rss_byte_ns,
        max(i.peak_bytes) AS peak_bytes,
        sum(i.alive_ns) AS alive_ns,
        sum(i.runqueue_ns) AS runqueue_ns,
        sum(i.voluntary) AS voluntary,
        sum(i.involuntary) AS involuntary,
        sum(i.minor) AS minor,
        sum(i.major) AS major,
        sumIf(i.threads_now, i.instant = o.newest) AS threads_now,
        sumIf(i.rss_now, i.instant = o.newest) AS rss_now,
        max(i.instant) AS last_seen,
        sum(i.user_ns) AS user_ns,
        sum(i.system_ns) AS system_ns,
        sum(i.waits) AS waits,
        sum(i.bytes_read) AS bytes_read,
        sum(i.bytes_written) AS bytes_written,
        sum(i.reads) AS reads,
        sum(i.writes) AS writes,
        sum(i.disk_read) AS disk_read,
        sum(i.disk_written) AS disk_written,
        sumIf(i.rss_anon_now, i.instant = o.newest) AS rss_anon_now,
        sumIf(i.rss_file_now, i.instant = o.newest) AS rss_file_now,
        sumIf(i.rss_shmem_now, i.instant = o.newest) AS rss_shmem_now,
        sumIf(i.swap_now, i.instant = o.newest) AS swap_now,
        sumIf(i.virtual_now, i.instant = o.newest) AS virtual_now,
        max(i.descriptors) AS peak_descriptors,
        sum(i.ended_threads_ns) AS ended_threads_ns,
        sumForEach(i.wait_counts) AS wait_counts,
        min(i.least_source) AS least_source,
        max(i.greatest_source) AS greatest_source
    FROM instants AS i
    INNER JOIN observed AS o ON i.host = o.host
    GROUP BY member_host, key
)
SELECT
    p.key AS name,
    arraySort(groupArray(toString(p.member_host))) AS member_hosts,
    -- A group has none of what only a process has.
    NULL::Nullable(String) AS process_id,
    NULL::Nullable(UInt32) AS pid,
    NULL::Nullable(UInt32) AS parent_pid,
    NULL::Nullable(Int64) AS start_time_ms,
    NULL::Nullable(UInt32) AS uid,
    NULL::Nullable(String) AS container_id,
    NULL::Nullable(Bool) AS kernel_thread,
    NULL::Nullable(Bool) AS exited,
    NULL::Nullable(UInt64) AS cpu_time_ns,
    NULL::Nullable(UInt64) AS open_file_descriptor_limit,
    NULL::Nullable(String) AS state,
    NULL::Nullable(UInt32) AS namespace_pid,
    sum(p.cpu_ns / p.observed_ns) * 100 AS avg_cpu_percent,
    sum(p.cpu_ns) / 1e9 AS cpu_seconds,
    if(min(p.kernel_only), NULL, sum(p.rss_byte_ns / p.observed_ns) / 1048576) AS avg_memory_mb,
    sum(p.peak_bytes) / 1048576 AS peak_memory_mb,
    sum(p.alive_ns / p.observed_ns) AS avg_num_procs,
    sum(p.runqueue_ns) / 1e9 AS runqueue_seconds,
    sum(p.voluntary) AS voluntary_switches,
    sum(p.involuntary) AS involuntary_switches,
    sum(p.minor) AS minor_faults,
    sum(p.major) AS major_faults,
    toUInt32(sum(p.threads_now)) AS threads,
    toUnixTimestamp64Milli(max(p.last_seen)) AS last_time_ms,
    if(min(p.kernel_only), NULL, ifNull(sum(p.rss_now), 0)) AS rss_bytes,
    sum(p.user_ns) / 1e9 AS user_cpu_seconds,
    sum(p.system_ns) / 1e9 AS system_cpu_seconds,
    sum(p.waits) AS runqueue_waits,
    sum(p.bytes_read) AS read_bytes,
    sum(p.bytes_written) AS written_bytes,
    sum(p.reads) AS read_operations,
    sum(p.writes) AS write_operations,
    sum(p.disk_read) AS disk_read_bytes,
    sum(p.disk_written) AS disk_written_bytes,
    sum(p.rss_anon_now) AS rss_anon_bytes,
    sum(p.rss_file_now) AS rss_file_bytes,
    sum(p.rss_shmem_now) AS rss_shmem_bytes,
    sum(p.swap_now) AS swap_bytes,
    sum(p.virtual_now) AS virtual_bytes,
    sum(p.peak_descriptors) AS peak_open_file_descriptors,
    if(min(p.least_source) = max(p.greatest_source), toString(min(p.least_source)), 'mixed') AS source,
    NULL::Nullable(String) AS boot_id,
    NULL::Nullable(UInt64) AS start_boottime_ns,
    NULL::Nullable(UInt32) AS exec_generation,
    NULL::Nullable(UInt64) AS parent_start_boottime_ns,
    NULL::Nullable(UInt64) AS cgroup_id,
    NULL::Nullable(UInt64) AS lifetime_peak_rss_bytes,
    sum(p.ended_threads_ns) / 1e9 AS ended_threads_cpu_seconds,
    sumForEach(p.wait_counts) AS runqueue_wait_counts
FROM per_host AS p
GROUP BY name
