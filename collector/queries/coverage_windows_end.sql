-- All of them together.
) AS p
GROUP BY host
ORDER BY host
