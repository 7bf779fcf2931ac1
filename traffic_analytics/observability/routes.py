"""Serve the metrics at /metrics, to holders of METRICS_TOKEN only if it is set."""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from traffic_analytics.runtime.authorization import bearer_token
from traffic_analytics.wsgi import error_answer, to_response

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def blueprint(export: Callable[[], bytes], token: str | None) -> Blueprint:
    """Return the route. `export` writes the metrics; without a token every client may read them."""
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    def metrics() -> Response:
        if token is not None and not is_bearer_of(token, request.headers.get("Authorization", "")):
            challenge = (("www-authenticate", "Bearer"),)
            return to_response(
                error_answer(401, "Unauthorized", "METRICS_TOKEN is needed as a bearer token", challenge)
            )
        return Response(export(), content_type=_TEXT, headers={"cache-control": "no-store"})

    return routes


def is_bearer_of(token: str, authorization: str) -> bool:
    """Return whether the header holds the token; the time does not depend on how much of it is right."""
    given = bearer_token(authorization)
    return given is not None and compare_digest(given.encode(), token.encode())
