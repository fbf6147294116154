-- A minute counts once it has its row here, and those from before have no peaks of groups. Without their rows they are computed
-- again at the start, from the samples.
TRUNCATE TABLE IF EXISTS host_samples_1m
