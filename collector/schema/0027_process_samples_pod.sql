-- In which pod of Kubernetes each process ran. Rows from before this are in none.
ALTER TABLE process_samples
    ADD COLUMN IF NOT EXISTS pod_uid LowCardinality(String) COMMENT 'UID of the Kubernetes pod from the control group; empty when there is none'
