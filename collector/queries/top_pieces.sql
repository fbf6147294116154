-- The end of `observed`, and `pieces`: the rows that count, samples first.
    ) AS o
    GROUP BY host
),
pieces AS
(
    SELECT
