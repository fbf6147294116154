-- How many processes ended, over all pages of the same question.
SELECT count() AS total
FROM process_exits AS e
WHERE e.end_time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND e.end_time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND (empty({hosts:Array(String)}) OR has({hosts:Array(String)}, host))
    AND (empty({name:String}) OR e.name = {name:String})
    AND (empty({process_id:String}) OR process_id = toUUIDOrZero({process_id:String}))
    AND ({max_lifetime_ns:UInt64} = 0 OR lifetime_ns <= {max_lifetime_ns:UInt64})
    AND (NOT {failed:Bool} OR ifNull(exit_code, 0) != 0 OR exit_signal IS NOT NULL)
