"""Count and trace what other parts do; only wiring and gunicorn.conf.py import this package."""
