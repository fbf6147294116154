-- By what the groups are.
        AND r.group_by = 'STORED_BY'
