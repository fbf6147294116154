-- Samples of whole snapshots, where nothing coarser is exact.
        if(exited, 0, interval_ns) AS alive_ns,
        toUInt128(rss_bytes) * interval_ns AS rss_byte_ns,
        time AS instant
