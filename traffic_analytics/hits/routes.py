"""Define the routes of hits, and the middleware that answers hits without Flask."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from traffic_analytics.hits.endpoint import HitEndpoint
from traffic_analytics.runtime import logs
from traffic_analytics.runtime.cors import ALLOW_ORIGIN
from traffic_analytics.wsgi import JSON, PREFIX, to_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HIT_PATH = "/api/v1/page_hit"


def blueprint(hits: HitEndpoint) -> Blueprint:
    """Return the routes of hits."""
    routes = Blueprint("traffic_analytics", __name__)

    @routes.post(HIT_PATH)
    @routes.post(HIT_PATH + "/")
    def receive() -> Response:
        return to_response(hits(request.environ))

    return routes


class HitMiddleware:
    """WSGI middleware that answers hits itself and passes all other requests to Flask.

    It only saves time: the route exists in Flask too, with the same endpoint. Decision record 0005 (hits do not
    pass through Flask) has the measurement.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], hits: HitEndpoint) -> None:
        self._app = app
        self._hits = hits
        self._paths = frozenset({HIT_PATH, HIT_PATH + "/", PREFIX + HIT_PATH, PREFIX + HIT_PATH + "/"})

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        with logs.request_context(environ):
            if environ["REQUEST_METHOD"] != "POST" or environ.get("PATH_INFO") not in self._paths:
                return self._app(environ, start_response)
            answer = self._hits(environ)
        headers = [("content-type", JSON), ("content-length", str(len(answer.body))), ALLOW_ORIGIN, *answer.headers]
        start_response(_STATUS_LINES[answer.status], headers)
        return [answer.body]


_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
