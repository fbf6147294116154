-- Groups by pod, as rows of process_samples have it since 0027.
ALTER TABLE group_peaks_1h
    COMMENT COLUMN group_by 'What makes a group: command, container, pod, user or host',
    COMMENT COLUMN key 'Name of the command, container id, UID of the pod, user id or name of the host',
    MODIFY COMMENT 'The greatest memory of each command, container, pod, user and host in each hour'
