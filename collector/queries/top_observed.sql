-- What the hosts observed of it.
observed AS
(
    SELECT host, sum(o.observed_ns) AS observed_ns, max(o.time) AS newest
    FROM
    (
