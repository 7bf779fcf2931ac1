"""Answer HTTP requests: status of each error, JSON bodies, CORS headers."""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, NamedTuple

from flask import Response, request
from werkzeug.exceptions import HTTPException

from traffic_analytics import errors
from traffic_analytics.runtime.cors import ALLOW_ORIGIN, REQUESTED_HEADERS, preflight_headers

if TYPE_CHECKING:
    from flask import Flask

_log = logging.getLogger(__name__)

JSON = "application/json"


STATUS: dict[type[errors.AnalyticsError], tuple[int, str]] = {
    errors.InvalidHit: (400, "Bad Request"),
    errors.SiteNotAllowed: (403, "Forbidden"),
    errors.TooManyNewSites: (429, "Too Many Requests"),
    errors.UnsignedUrl: (401, "Unauthorized"),
    errors.BodyTooLarge: (413, "Payload Too Large"),
    errors.UnsupportedMediaType: (415, "Unsupported Media Type"),
    errors.UpstreamFailed: (502, "Proxy error"),
    errors.SaltUnavailable: (503, "Service Unavailable"),
    errors.SpoolUnavailable: (503, "Service Unavailable"),
    errors.NotSubscribed: (503, "Service Unavailable"),
    errors.InvalidQuery: (400, "Bad Request"),
    errors.TokenRefused: (403, "Forbidden"),
    errors.UnknownPipe: (404, "Not Found"),
    errors.TargetIsOurselves: (508, "Loop Detected"),
    errors.KeyRefused: (401, "Unauthorized"),
    errors.InvalidRows: (400, "Bad Request"),
    errors.SyncDelayed: (503, "Service Unavailable"),
    errors.SyncFailed: (502, "Bad Gateway"),
}
"""Status and name of each error that a request can raise; other errors only stop the start or a worker."""


class Answer(NamedTuple):
    """Response to a client: always JSON, readable by a script of any page."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def answer_to(error: Exception) -> Answer:
    """Map an error to its response, and log the facts that only concern the operator."""
    if not isinstance(error, errors.AnalyticsError) or type(error) not in STATUS:
        _log.error("defect of this service", exc_info=error, extra={"event": "UnhandledError"})
        return error_answer(500, "Internal Server Error", "defect of this service")
    status, name = STATUS[type(error)]
    match error:
        case errors.UpstreamFailed():
            _log.error("Tinybird did not accept an event: %s", error, extra={"event": "ProxyError"})
            return Answer(status, b'{"error":"Proxy error"}')
        case errors.SiteNotAllowed():
            _log.warning("hits of a site that is not in ALLOWED_SITES are refused", extra={"event": "SiteNotAllowed"})
        case errors.TooManyNewSites(retry_after=seconds):
            _log.warning("hits of new sites are refused: %s", error, extra={"event": "TooManyNewSites"})
            return error_answer(status, name, "too many new sites", (("retry-after", str(math.ceil(seconds))),))
        case errors.SaltUnavailable():
            _log.error("no salt available: %s", error, extra={"event": "SaltUnavailable"})
            return error_answer(status, name, "the salt store cannot be used", (("retry-after", "5"),))
        case errors.SpoolUnavailable():
            _log.error("the spool cannot be used: %s", error, extra={"event": "SpoolUnavailable"})
            return error_answer(status, name, "the spool is full or cannot be used", (("retry-after", "5"),))
        case errors.SyncDelayed(retry_after=seconds):
            return error_answer(status, name, str(error), (("retry-after", str(math.ceil(seconds))),))
    return error_answer(status, name, str(error))


def error_answer(status: int, name: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Build the response that all errors share: name, message and status."""
    fields = {"error": name, "message": message, "statusCode": status}
    return Answer(status, json.dumps(fields).encode(), headers)


PREFIX = "/.ghost/analytics"
"""Path prefix that Ghost's pages use; ghost-docker's proxy strips it, other proxies do not."""


def answer_preflights(app: Flask) -> None:
    """Answer OPTIONS on every route and on `*`: browsers send it before a request, balancers as a health check."""

    @app.before_request
    def answer() -> Response | None:
        if request.method != "OPTIONS" or (request.routing_exception and request.environ["PATH_INFO"] != "*"):
            return None
        return Response(status=204, headers=preflight_headers(request.headers.get(REQUESTED_HEADERS)))


def handle_errors(app: Flask) -> None:
    """Respond to every error with JSON, and allow every origin to read every response."""

    @app.errorhandler(Exception)
    def respond(error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return to_response(answer_to(error))
        code = error.code or 500
        allow = tuple((name, value) for name, value in error.get_headers() if name.lower() == "allow")
        return to_response(error_answer(code, error.name, "no such route" if code == 404 else error.name, allow))

    @app.after_request
    def allow_any_origin(response: Response) -> Response:
        response.headers.set(*ALLOW_ORIGIN)
        return response


def to_response(answer: Answer) -> Response:
    """Convert an answer to Flask's response."""
    return Response(answer.body, answer.status, answer.headers, content_type=JSON)
