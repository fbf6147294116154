-- Which of these hosts had sent something by a time. Each hour of a host is a handful of granules by the key.
SELECT DISTINCT toString(h.host) AS name
FROM host_samples AS h
WHERE h.host IN (SELECT arrayJoin({hosts:Array(String)}))
    AND h.time <= fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')
