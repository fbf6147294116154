-- As in process_samples_1m since 0030.
ALTER TABLE process_samples_1h
    ADD COLUMN IF NOT EXISTS pod_uid LowCardinality(String) COMMENT 'UID of the Kubernetes pod from the control group; empty when there is none',
    MODIFY ORDER BY (toStartOfDay(window), host, name, pid, process_id, exec_generation, uid, container_id, window, pod_uid)
