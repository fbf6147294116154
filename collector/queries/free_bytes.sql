-- Room on the disk that has least, less what merges have reserved. Disks elsewhere tell no limit.
SELECT ifNull(min(unreserved_space), 0)
FROM system.disks
