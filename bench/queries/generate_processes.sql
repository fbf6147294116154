-- What the processes of generate_samples.sql were started as, for minutes that end in (from_s, to_s].
INSERT INTO processes
(
    agent_id, epoch, seq, host, time, process_id, exec_generation, pid, parent_pid, start_boottime_ns, start_time, name,
    exe, cmdline, uid, cgroup, container_id, kernel_thread, received_at
)
WITH
    intDiv({to_s:UInt32} - {from_s:UInt32}, 60) AS minutes,
    intDiv({processes:UInt32} * 9, 10) AS stay,
    intDiv(number, {processes:UInt32} * minutes) AS machine,
    intDiv(number, minutes) % {processes:UInt32} AS place,
    {from_s:UInt32} + (number % minutes + 1) * 60 AS at_s,
    intDiv(at_s - 1, 60) AS minute,
    place >= stay AS short
SELECT
    toUUID('00000000-0000-4000-8000-000000000000') AS agent_id,
    cityHash64(machine) AS epoch,
    at_s AS seq,
    concat('bench-', leftPad(toString(machine), 3, '0')) AS host,
    fromUnixTimestamp64Milli(toInt64(at_s) * 1000, 'UTC') AS time,
    reinterpretAsUUID(sipHash128(machine, place, if(short, minute, 0))) AS process_id,
    1 AS exec_generation,
    1000 + place + if(short, minute % 30000, 0) AS pid,
    1 AS parent_pid,
    if(short, minute * 60, 1000000) * 1000000000 + place AS start_boottime_ns,
    time AS start_time,
    concat(if(short, 'job-', 'service-'), toString(cityHash64(place, machine % 7) % 40)) AS name,
    '/usr/bin/job' AS exe,
    concat('/usr/bin/job --number ', toString(place), ' --of ', toString(machine)) AS cmdline,
    if(place % 5 = 0, 0, 1000 + place % 7) AS uid,
    '/system.slice/job.service' AS cgroup,
    if(place % 3 = 0, lower(hex(sipHash128(machine, place))), '') AS container_id,
    false AS kernel_thread,
    time AS received_at
FROM numbers_mt(toUInt64({machines:UInt32}) * {processes:UInt32} * minutes)
WHERE short OR ({first:Bool} AND number % minutes = 0)
