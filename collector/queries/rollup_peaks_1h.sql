-- Computes the peaks of groups in hours from those in their minutes.
INSERT INTO group_peaks_1h (host, window, version, group_by, key, peak_rss_bytes, open_file_descriptors)
WITH windows AS
(
    SELECT w.1 AS host, toDateTime(w.2, 'UTC') AS window, w.3 AS version
    FROM (SELECT arrayJoin(arrayZip({hosts:Array(String)}, {windows:Array(UInt32)}, {versions:Array(UInt64)})) AS w)
)
SELECT
    s.host,
    s.hour,
    any(w.version),
    s.group_by,
    s.key,
    max(s.peak_rss_bytes),
    max(s.open_file_descriptors)
FROM
(
    SELECT *, toDateTime(toStartOfHour(r.window), 'UTC') AS hour
    FROM group_peaks_1m AS r FINAL
    WHERE r.window >= toDateTime(intDiv({from_ms:Int64}, 1000), 'UTC')
        AND r.window < toDateTime(intDiv({to_ms:Int64}, 1000), 'UTC')
        AND r.host IN {hosts:Array(String)}
) AS s
INNER JOIN windows AS w ON s.host = w.host AND s.hour = w.window
GROUP BY s.host, s.hour, s.group_by, s.key
SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 10000000, min_insert_block_size_bytes = 0
