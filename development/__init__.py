"""Start service and store for development: `python -m development`."""
