-- The ends of those that live a minute each (generate_samples.sql), for minutes that end in (from_s, to_s].
INSERT INTO process_exits
(
    agent_id, epoch, seq, host, time, process_id, exec_generation, pid, parent_pid, start_boottime_ns, start_time,
    end_time, name, exe, uid, container_id, lifetime_ns, cpu_time_ns, peak_rss_bytes, exit_code, source, received_at
)
WITH
    intDiv({to_s:UInt32} - {from_s:UInt32}, 60) AS minutes,
    {processes:UInt32} - intDiv({processes:UInt32} * 9, 10) AS ends,
    intDiv(number, ends * minutes) AS machine,
    intDiv(number, minutes) % ends + intDiv({processes:UInt32} * 9, 10) AS place,
    {from_s:UInt32} + (number % minutes + 1) * 60 AS at_s,
    intDiv(at_s - 1, 60) AS minute,
    cityHash64(number, at_s) AS dice
SELECT
    toUUID('00000000-0000-4000-8000-000000000000') AS agent_id,
    cityHash64(machine) AS epoch,
    at_s AS seq,
    concat('bench-', leftPad(toString(machine), 3, '0')) AS host,
    fromUnixTimestamp64Milli(toInt64(at_s) * 1000, 'UTC') AS time,
    reinterpretAsUUID(sipHash128(machine, place, minute)) AS process_id,
    1 AS exec_generation,
    1000 + place + minute % 30000 AS pid,
    1 AS parent_pid,
    minute * 60000000000 + place AS start_boottime_ns,
    fromUnixTimestamp64Milli(toInt64(minute) * 60000, 'UTC') AS start_time,
    fromUnixTimestamp64Milli(toInt64(at_s) * 1000 - toInt64(dice % 900), 'UTC') AS end_time,
    concat('job-', toString(cityHash64(place, machine % 7) % 40)) AS name,
    '/usr/bin/job' AS exe,
    if(place % 5 = 0, 0, 1000 + place % 7) AS uid,
    if(place % 3 = 0, lower(hex(sipHash128(machine, place))), '') AS container_id,
    toUInt64(60000000000) - dice % 900000000 AS lifetime_ns,
    dice % 4000000000 AS cpu_time_ns,
    (4096 + dice % 60000) * 4096 AS peak_rss_bytes,
    if(dice % 25 = 0, 1, 0) AS exit_code,
    'ebpf' AS source,
    time AS received_at
FROM numbers_mt(toUInt64({machines:UInt32}) * ends * minutes)
