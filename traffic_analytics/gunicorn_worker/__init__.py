"""Serve whole requests from gunicorn; knows nothing of analytics."""
