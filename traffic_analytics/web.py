"""The routes, and the short way in for hits: request -> core -> response."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from traffic_analytics import logs
from traffic_analytics.hit_endpoint import Answer, HitEndpoint, answer_to, error_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask

    from traffic_analytics.settings import Settings

_log = logging.getLogger(__name__)

PREFIX = "/.ghost/analytics"
"""Where Ghost's page reaches us; ghost-docker's proxy strips it, others do not."""
HIT_PATH = "/api/v1/page_hit"

_JSON = "application/json"
_CORS = ("access-control-allow-origin", "*")
_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": "Origin, X-Requested-With, Content-Type, Accept, Authorization, x-site-uuid",
    "access-control-max-age": "86400",
}


def blueprint(hits: HitEndpoint) -> Blueprint:
    """Return the routes of hits."""
    routes = Blueprint("traffic_analytics", __name__)

    @routes.post(HIT_PATH, provide_automatic_options=False)
    @routes.post(HIT_PATH + "/", provide_automatic_options=False)
    def receive() -> Response:
        return response_of(hits(request.environ))

    @routes.route(HIT_PATH, methods=["OPTIONS"], provide_automatic_options=False)
    @routes.route(HIT_PATH + "/", methods=["OPTIONS"], provide_automatic_options=False)
    def preflight() -> Response:
        return Response(status=204, headers=_PREFLIGHT)

    return routes


def probes(settings: Settings, check: Callable[[], None]) -> Blueprint:
    """Return the routes that balancers and operators ask. `check` raises if this process cannot do its work."""
    routes = Blueprint("probes", __name__)

    @routes.get("/", provide_automatic_options=False)
    def hello() -> Response:
        return Response("Hello Ghost Traffic Analytics", content_type="text/plain; charset=utf-8")

    @routes.get("/info", provide_automatic_options=False)
    def info() -> Response:
        return Response(json.dumps({"build": settings.build_label}), content_type=_JSON)

    @routes.get("/health", provide_automatic_options=False)
    def health() -> Response:
        return Response('{"status":"ok"}', content_type=_JSON)

    @routes.get("/ready", provide_automatic_options=False)
    def ready() -> Response:
        check()
        return Response('{"status":"ready"}', content_type=_JSON)

    return routes


def local_proxy() -> Blueprint:
    """Return a stand-in for Tinybird for development: it logs each event and answers that it was taken."""
    routes = Blueprint("local_proxy", __name__)

    @routes.post("/local-proxy", provide_automatic_options=False)
    @routes.post("/local-proxy/<path:_rest>", provide_automatic_options=False)
    def take(_rest: str = "") -> Response:
        lines = request.get_data().splitlines()
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                return response_of(error_answer(400, "Bad Request", "a line is not JSON"))
            _log.info("an event arrived", extra={"event": "LocalProxyEvent", "payload": event})
        return Response(json.dumps({"successful_rows": len(lines), "quarantined_rows": 0}), 202, content_type=_JSON)

    return routes


def handle_errors(app: Flask) -> None:
    """Answer every error as JSON, and every request so that a browser lets the page see the answer."""

    @app.errorhandler(Exception)
    def refuse(error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return response_of(answer_to(error))
        code = error.code or 500
        allow = tuple((name, value) for name, value in error.get_headers() if name.lower() == "allow")
        return response_of(error_answer(code, error.name, "no such route" if code == 404 else error.name, allow))

    @app.after_request
    def allow_any_origin(response: Response) -> Response:
        response.headers["access-control-allow-origin"] = "*"
        return response


def response_of(answer: Answer) -> Response:
    """Return an answer as Flask takes it."""
    return Response(answer.body, answer.status, answer.headers, content_type=_JSON)


class HitDoor:
    """WSGI middleware that answers hits itself and lets Flask answer everything else.

    Flask's way from request to response takes a third of a hit's CPU time in this service and adds nothing to it: no
    session, no URL variables, no hooks. The route exists in Flask too, with the same function behind it, so leaving the
    door out changes only the speed.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], hits: HitEndpoint) -> None:
        self._app = app
        self._hits = hits
        self._paths = frozenset({HIT_PATH, HIT_PATH + "/", PREFIX + HIT_PATH, PREFIX + HIT_PATH + "/"})

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        with logs.about(environ):
            if environ["REQUEST_METHOD"] != "POST" or environ.get("PATH_INFO") not in self._paths:
                return self._app(environ, start_response)
            answer = self._hits(environ)
        headers = [("content-type", _JSON), ("content-length", str(len(answer.body))), _CORS, *answer.headers]
        start_response(_STATUS_LINES[answer.status], headers)
        return [answer.body]


_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
