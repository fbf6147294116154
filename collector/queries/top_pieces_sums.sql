-- What the stored sum of a group has in their place: threads of members that ended are not in it, and its peaks are in
-- group_peaks_1m and _1h.
        GROUP_KEY AS key,
        false AS exited,
        NULL AS peak_rss_bytes,
        NULL AS open_file_descriptors,
