"""Run the service with a clock that is off by the seconds in a file, which a test rewrites at any time."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from traffic_analytics.runtime.env_values import read_environment
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app
from traffic_analytics.wiring.service import now_utc

_environment = read_environment()
_off_by = Path(_environment["CLOCK_OFF_BY"])


def clock() -> datetime:
    """Return the time that the test has set."""
    return now_utc() + timedelta(seconds=float(_off_by.read_text()))


app = create_app(Settings.from_env(_environment), clock=clock)
