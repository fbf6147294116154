-- `observed`: how long each host was, and its newest instant. `complete`: the snapshots that count.
-- top_groups.sql and top_processes.sql come after this text.
-- A snapshot counts once its row in host_samples exists: that is written last, and until then its time is not observed.
-- Host and time as one number name it: on 14 M rows a fifth more CPU, where (epoch, seq) takes up to three times as long.
WITH observed AS
(
    SELECT host, sum(interval_ns) AS observed_ns, max(h.time) AS newest
    FROM host_samples AS h
    WHERE h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
    GROUP BY host
),
complete AS
(
    SELECT cityHash64(h.host) + toUnixTimestamp64Milli(h.time) AS snapshot
    FROM host_samples AS h
    WHERE h.time > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND h.time <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
),
