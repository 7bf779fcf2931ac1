"""Provide the WSGI application: `gunicorn -c gunicorn.conf.py app:app`."""

from __future__ import annotations

import os

from traffic_analytics.app_commands import app_without_settings
from traffic_analytics.errors import ConfigurationError, DamagedFile
from traffic_analytics.runtime.env_values import read_environment
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app

environment = read_environment()
os.environ.update(environment)  # noqa: TID251 - OpenTelemetry, Google's libraries and requests read their variables there
try:
    app = create_app(Settings.from_env(environment))
except ConfigurationError as error:
    app = app_without_settings(f"Traffic Analytics cannot start, the settings hold mistakes:\n{error}")
except DamagedFile as error:
    app = app_without_settings(f"Traffic Analytics cannot start: {error}")
