-- `peaks` of groups whose minutes and hours are stored with their peaks: of all of a command, container, pod, user or
-- host.
-- Comes between top_groups.sql and top_group_figures.sql.
peaks AS
(
    SELECT host, key, max(a.peak_bytes) AS peak_bytes, max(a.descriptors) AS peak_descriptors
    FROM
    (
