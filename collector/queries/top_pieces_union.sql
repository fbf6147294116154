-- The next table.
    UNION ALL
    SELECT
