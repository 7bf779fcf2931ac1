"""Serve statistics under Tinybird's own paths, so that Ghost can be configured with this service's address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from traffic_analytics.errors import TargetIsOurselves
from traffic_analytics.runtime.query_parameters import PARAMETERS_LIMIT
from traffic_analytics.statistics.query import add_body
from traffic_analytics.tinybird.pipes import USER_AGENT
from traffic_analytics.wsgi import to_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.wsgi import Answer

_PATH = "/v0/pipes/<path:file>"


def blueprint(answer: Callable[[str, str, str | None], Answer]) -> Blueprint:
    """Return the routes. `answer` receives the path after `/v0/pipes/`, the query string and Authorization."""
    routes = Blueprint("statistics", __name__)

    @routes.route(_PATH, methods=["GET", "POST"])
    def query_pipe(file: str) -> Response:
        if request.headers.get("User-Agent") == USER_AGENT:
            raise TargetIsOurselves("STATS_TARGET leads back to this service")
        query_string = request.environ.get("QUERY_STRING", "")
        if request.method == "POST":
            request.max_content_length = PARAMETERS_LIMIT
            query_string = add_body(query_string, request.mimetype, request.get_data())
        return to_response(answer(file, query_string, request.headers.get("Authorization")))

    return routes
