-- The next table.
    UNION ALL
