-- What a member of a group has, beside its figures; GROUP_KEY is what makes one.
        GROUP_KEY AS key,
        exited,
        peak_rss_bytes,
        open_file_descriptors,
