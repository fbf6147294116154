-- One table.
    SELECT
