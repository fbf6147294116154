-- Minutes or hours.
    SELECT
        host,
        toInt64(toUnixTimestamp(r.window)) * 1000 AS begin_ms,
        observed_ns AS inside_ns,
        toUnixTimestamp64Milli(r.time) AS inside_ms,
        intDiv(observed_ns, greatest(version, 1)) AS usual_ns,
        losses,
        sources AS ways
