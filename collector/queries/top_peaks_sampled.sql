-- The end of the samples among `peaks`.
        GROUP BY host, key, r.time
