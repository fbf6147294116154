-- The same for the parts that were there before.
ALTER TABLE host_samples MATERIALIZE PROJECTION minutes
