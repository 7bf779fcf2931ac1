"""Start store and service for development: `python -m development`."""
