-- As in process_samples since 0027.
ALTER TABLE process_exits
    ADD COLUMN IF NOT EXISTS pod_uid LowCardinality(String) COMMENT 'UID of the Kubernetes pod from the control group; empty when there is none'
