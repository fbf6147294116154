-- The end of `observed`, and `pieces`: the rows that count.
    ) AS o
    GROUP BY host
),
pieces AS
(
