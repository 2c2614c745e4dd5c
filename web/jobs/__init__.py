"""Work that outlives a request: its records, its queue, and the processes that do it."""
