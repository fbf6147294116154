-- What was applied to this database; a repeated application of the same file is one.
SELECT number, any(m.name) AS file, groupUniqArray(m.checksum) AS checksums
FROM schema_migrations AS m
GROUP BY number
ORDER BY number
