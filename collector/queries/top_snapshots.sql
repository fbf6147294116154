-- What of the samples counts.
snapshots AS
(
    SELECT host, time, interval_ns
