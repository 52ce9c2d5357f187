"""Who does the work: processes that survive what their files do, or a Ray cluster."""
