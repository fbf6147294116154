-- The end of the pieces.
),
