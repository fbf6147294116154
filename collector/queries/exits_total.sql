-- How many processes ended, over all pages of the same question. Comes after exits_found.sql.
SELECT count() AS total
FROM found
