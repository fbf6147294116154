-- Before 0027 no process was in a pod, so that the peak of all of these is that of their host. Version 0: whatever is
-- computed wins.
INSERT INTO group_peaks_1m (host, window, version, group_by, key, peak_rss_bytes, open_file_descriptors)
SELECT r.host, r.window, 0, 'pod', '', r.peak_rss_bytes, r.open_file_descriptors
FROM group_peaks_1m AS r FINAL
WHERE r.group_by = 'host'
SETTINGS max_partitions_per_insert_block = 0
