-- The same of minutes or hours.
        UNION ALL
        SELECT host, time, observed_ns
