-- At each instant.
        SELECT toString(host) AS host, toString(GROUP_KEY) AS key, sum(peak_rss_bytes) AS peak_bytes, sum(open_file_descriptors) AS descriptors
