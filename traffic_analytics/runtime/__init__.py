"""Read variables, log, run threads and share files, independent of hits."""
