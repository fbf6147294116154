-- After how many days the rows of each table expire; 0 when its text says so in another way.
SELECT name, toUInt32OrZero(extract(engine_full, 'TTL .*toIntervalDay\\((\\d+)\\)')) AS days
FROM system.tables
WHERE database = {database:String}
