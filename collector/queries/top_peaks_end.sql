-- The end of top_peaks_stored.sql.
    ) AS a
    GROUP BY host, key
),
