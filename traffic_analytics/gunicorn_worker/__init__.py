"""Run a WSGI application under gunicorn and pass it whole requests only."""
