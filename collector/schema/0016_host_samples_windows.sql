-- How many snapshots each host has in each minute and hour, kept with every part: so a question finds out, without reading
-- them, which minutes and hours were computed of all there are.
ALTER TABLE host_samples
    ADD PROJECTION IF NOT EXISTS minutes
    (
        SELECT host, toStartOfMinute(subtractMilliseconds(time, 1)) AS minute, count(), sum(samples)
        GROUP BY host, minute
    ),
    ADD PROJECTION IF NOT EXISTS hours
    (
        SELECT host, toStartOfHour(subtractMilliseconds(time, 1)) AS hour, count(), sum(samples)
        GROUP BY host, hour
    )
