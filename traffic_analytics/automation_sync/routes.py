"""The route of Ghost's sync of its automations, and what the worker must know of its bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from traffic_analytics.automation_sync import rows as sync_rows
from traffic_analytics.automation_sync.auth import SYNC_PATH
from traffic_analytics.gunicorn_worker.body_limits import LargeBodies
from traffic_analytics.wsgi import to_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from traffic_analytics.automation_sync.auth import SyncKey
    from traffic_analytics.wsgi import Answer

MOST_BODIES = 4
"""Bodies that a process holds at a time; Ghost sends two together, one for each table."""
BODY_DEADLINE = 150.0
"""Seconds for a body to arrive: 9 MiB at 500 kbit/s. The other half of Ghost's five minutes is for sending on."""


def blueprint(sync: Callable[[dict[str, Any]], Answer]) -> Blueprint:
    """Return the route."""
    routes = Blueprint("sync", __name__)

    @routes.post(SYNC_PATH, provide_automatic_options=False)
    @routes.post(SYNC_PATH + "/", provide_automatic_options=False)
    def take() -> Response:
        return to_response(sync(request.environ))

    return routes


def large_bodies(key: SyncKey) -> LargeBodies:
    """Say whose bodies may be long. Without the key nobody can make a process hold more than a hit's."""
    return LargeBodies(wanted=key.opens, limit=sync_rows.BODY_LIMIT, most=MOST_BODIES, deadline=BODY_DEADLINE)
