-- The end of `snapshots`.
),
