"""Provide the WSGI application: `gunicorn -c gunicorn.conf.py app:app`."""

from __future__ import annotations

import sys

from traffic_analytics.errors import ConfigurationError, DamagedFile
from traffic_analytics.settings import Settings, read_environment
from traffic_analytics.wiring import create_app

try:
    app = create_app(Settings.from_env(read_environment()))
except ConfigurationError as error:
    sys.exit(f"Traffic Analytics cannot start, the settings hold mistakes:\n{error}")
except DamagedFile as error:
    sys.exit(f"Traffic Analytics cannot start: {error}")
