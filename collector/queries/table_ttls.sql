-- After how many days the rows of each table expire; 0 when its text says so in another way. A number that was bound to
-- a statement stands there as a cast.
SELECT name, toUInt32OrZero(extract(engine_full, 'TTL .*toIntervalDay\\((?:_CAST\\()?(\\d+)')) AS days
FROM system.tables
WHERE database = {database:String}
