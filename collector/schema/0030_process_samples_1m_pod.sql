-- As in process_samples since 0027. It is part of the key: a process may be moved into a pod within a minute.
ALTER TABLE process_samples_1m
    ADD COLUMN IF NOT EXISTS pod_uid LowCardinality(String) COMMENT 'UID of the Kubernetes pod from the control group; empty when there is none',
    MODIFY ORDER BY (toStartOfHour(window), host, name, pid, process_id, exec_generation, uid, container_id, window, pod_uid)
