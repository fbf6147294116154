-- No peaks: they come from top_peaks_instants.sql.
peaks AS
(
    SELECT '' AS host, '' AS key, NULL::Nullable(UInt64) AS peak_bytes, NULL::Nullable(UInt64) AS peak_descriptors
    WHERE false
),
