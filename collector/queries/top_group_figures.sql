-- What each group used on each host, added up but not yet divided by what the host observed: a top is made of such sums from
-- samples, minutes and hours, each asked for by itself. After `peaks`.
used AS
(
    SELECT
        host,
        toString(s.key) AS key,
        min(s.kernel_thread) AS kernel_only,
        sum(s.cpu_time_ns_delta) AS cpu_ns,
        ifNull(sum(s.rss_byte_ns), 0) AS rss_byte_ns,
        sum(s.alive_ns) AS alive_ns,
        sum(s.runqueue_ns_delta) AS runqueue_ns,
        sum(s.voluntary_switches_delta) AS voluntary,
        sum(s.involuntary_switches_delta) AS involuntary,
        sum(s.minor_faults_delta) AS minor,
        sum(s.major_faults_delta) AS major,
        sum(s.user_time_ns_delta) AS user_ns,
        sum(s.system_time_ns_delta) AS system_ns,
        sum(s.runqueue_waits_delta) AS waits,
        sum(s.read_bytes_delta) AS bytes_read,
        sum(s.written_bytes_delta) AS bytes_written,
        sum(s.read_operations_delta) AS reads,
        sum(s.write_operations_delta) AS writes,
        sum(s.disk_read_bytes_delta) AS disk_read,
        sum(s.disk_written_bytes_delta) AS disk_written,
        sum(s.ended_threads_cpu_time_ns_delta) AS ended_threads_ns,
        sumIf(s.threads, s.is_newest AND NOT s.exited) AS threads_now,
        sumIf(s.rss_bytes, s.is_newest) AS rss_now,
        sumIf(s.rss_anon_bytes, s.is_newest) AS rss_anon_now,
        sumIf(s.rss_file_bytes, s.is_newest) AS rss_file_now,
        sumIf(s.rss_shmem_bytes, s.is_newest) AS rss_shmem_now,
        sumIf(s.swap_bytes, s.is_newest) AS swap_now,
        sumIf(s.virtual_bytes, s.is_newest) AS virtual_now,
        max(s.time) AS last_seen,
        maxIf(s.time, s.is_newest) AS newest,
        sumForEach(s.runqueue_wait_counts) AS wait_counts,
        min(s.source) AS least_source,
        max(s.source) AS greatest_source
    FROM chosen AS s
    GROUP BY host, s.key
)
SELECT
    toString(u.host) AS ran_on,
    u.key AS member_of,
    toUnixTimestamp64Milli(u.last_seen) AS last_seen_ms,
    -- The instant that the figures of now are of; 0: of none.
    toUnixTimestamp64Milli(u.newest) AS newest_ms,
    k.peak_bytes AS peak_bytes,
    k.peak_descriptors AS peak_descriptors,
    if(u.least_source = u.greatest_source, toString(u.least_source), 'mixed') AS measured,
    u.* EXCEPT (host, key, last_seen, newest, least_source, greatest_source)
FROM used AS u
LEFT JOIN peaks AS k ON u.host = k.host AND u.key = k.key
