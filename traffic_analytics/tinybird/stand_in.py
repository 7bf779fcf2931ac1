"""Stand in for Tinybird during development: log each event and accept it."""

from __future__ import annotations

import json
import logging

from flask import Blueprint, Response, request

_log = logging.getLogger(__name__)

_JSON = "application/json"


def local_proxy() -> Blueprint:
    """Return the routes that LOCAL_PROXY adds."""
    routes = Blueprint("local_proxy", __name__)

    @routes.post("/local-proxy")
    @routes.post("/local-proxy/<path:_rest>")
    def accept_events(_rest: str = "") -> Response:
        lines = request.get_data().splitlines()
        for line in lines:
            try:
                event = json.loads(line)
                # Writing the log recurses deeper than reading the line.
                _log.info("an event arrived", extra={"event": "LocalProxyEvent", "payload": event})
            except (ValueError, RecursionError):
                return Response('{"error":"a line is not JSON"}', 400, content_type=_JSON)
        return Response(json.dumps({"successful_rows": len(lines), "quarantined_rows": 0}), 202, content_type=_JSON)

    return routes
