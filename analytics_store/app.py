"""Provide the store's WSGI application: `gunicorn -c analytics_store/gunicorn.conf.py analytics_store.app:app`."""

import sys

from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.runtime.env_values import read_environment

try:
    app = create_app(Settings.from_env(read_environment()))
except ConfigurationError as error:
    sys.exit(f"The analytics store cannot start, the settings hold mistakes:\n{error}")
