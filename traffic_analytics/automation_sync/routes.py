"""Define the route of Ghost's sync of its automations, and the limits of its bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from traffic_analytics.automation_sync import rows as sync_rows
from traffic_analytics.automation_sync.auth import SYNC_PATH
from traffic_analytics.gunicorn_worker.body_limits import BodyLimits
from traffic_analytics.wsgi import to_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from traffic_analytics.automation_sync.auth import SyncKey
    from traffic_analytics.wsgi import Answer

MAX_BODIES = 4
"""Bodies that a process holds at a time; Ghost sends two together, one for each table."""
BODY_DEADLINE = 150.0
"""Time for a body to arrive, in seconds: 9 MiB at 500 kbit/s. It leaves half of Ghost's five minutes for Tinybird."""


def blueprint(sync: Callable[[dict[str, Any]], Answer]) -> Blueprint:
    """Return the route."""
    routes = Blueprint("sync", __name__)

    @routes.post(SYNC_PATH)
    @routes.post(SYNC_PATH + "/")
    def receive() -> Response:
        return to_response(sync(request.environ))

    return routes


def body_limits(key: SyncKey) -> BodyLimits:
    """Return the limits of large bodies. Only a client with the key can make a process hold one."""
    return BodyLimits(accepts=key.admits, max_bytes=sync_rows.BODY_LIMIT, max_bodies=MAX_BODIES, deadline=BODY_DEADLINE)
