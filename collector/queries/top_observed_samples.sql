-- Whole snapshots.
        SELECT host, time, interval_ns AS observed_ns
        FROM snapshots
