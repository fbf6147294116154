-- The same of minutes or hours.
        SELECT host, time, observed_ns
