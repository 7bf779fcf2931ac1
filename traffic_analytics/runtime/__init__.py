"""Read variables, log, run threads and share files; knows nothing of hits."""
