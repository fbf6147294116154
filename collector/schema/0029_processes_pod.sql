-- As in process_samples since 0027.
ALTER TABLE processes
    ADD COLUMN IF NOT EXISTS pod_uid LowCardinality(String) COMMENT 'UID of the Kubernetes pod from the control group; empty when there is none'
