-- `observed`: how long each host was, and its newest instant. `pieces`: the rows that count, of an interval, a minute or
-- an hour of a process or a group each.
-- A range is cut in five: samples up to `head_ms`, minutes up to `hours_from_ms`, hours up to `hours_to_ms`, minutes up to
-- `tail_ms`, samples up to the end. Minutes and hours that were computed of fewer snapshots than there are (windows.sql)
-- are read from the samples. Every sum is one of integers, so it is the same whichever table it came from.
-- A snapshot counts once its row in host_samples exists: that is written last, and until then its time is not observed.
-- Host and time as one number name it: on 14 M rows a fifth more CPU, where (epoch, seq) takes up to three times as long.
-- Of a part of a cut only what is read from samples, minutes or hours stands here.
WITH
