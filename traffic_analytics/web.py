"""One hit crosses this file from request to answer; every error becomes a status in one table."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from traffic_analytics import errors, page_hit, signed_url, visitor
from traffic_analytics.enrich import enrich

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from http import HTTPStatus

    from flask import Flask

    from traffic_analytics.delivery import DirectDelivery
    from traffic_analytics.salts import Salts
    from traffic_analytics.settings import Settings
    from traffic_analytics.user_agent import UserAgent

_log = logging.getLogger(__name__)

PREFIX = "/.ghost/analytics"
"""Where Ghost's page reaches us; ghost-docker's proxy strips it, others do not."""

_CORS = {"access-control-allow-origin": "*"}
_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": "Origin, X-Requested-With, Content-Type, Accept, Authorization, x-site-uuid",
    "access-control-max-age": "86400",
}
_RECEIVED = b'{"message":"Page hit event received"}'
_JSON = "application/json"

STATUS: dict[type[errors.AnalyticsError], tuple[int, str]] = {
    errors.InvalidHit: (400, "Bad Request"),
    errors.UnsignedUrl: (401, "Unauthorized"),
    errors.BodyTooLarge: (413, "Payload Too Large"),
    errors.UnsupportedMediaType: (415, "Unsupported Media Type"),
    errors.SaltUnavailable: (503, "Service Unavailable"),
    errors.UpstreamFailed: (502, "Proxy error"),
}
"""What each error means to the sender. Those that are not here stop the start and never meet a request."""


class Parts(NamedTuple):
    """What a hit needs on its way; wiring.py puts it together."""

    settings: Settings
    clock: Callable[[], datetime]
    salts: Salts
    delivery: DirectDelivery
    parse_user_agent: Callable[[str], UserAgent]
    is_bot: Callable[[str], bool]
    new_event_id: Callable[[], str]


def blueprint(parts: Parts) -> Blueprint:
    """Return the routes of the service."""
    routes = Blueprint("traffic_analytics", __name__)
    settings, salts, delivery = parts.settings, parts.salts, parts.delivery
    hmac_secret = settings.hmac_secret.encode() if settings.hmac_secret else None
    bot_headers = {"x-ghost-bot-detected": "true"} if settings.enable_bot_detection_header else {}

    @routes.post("/api/v1/page_hit", provide_automatic_options=False)
    @routes.post("/api/v1/page_hit/", provide_automatic_options=False)
    def receive() -> Response:
        now = parts.clock()
        environ = request.environ
        body = read_body()
        if hmac_secret is not None:
            check_signature(hmac_secret, now.timestamp())
        hit = page_hit.parse(environ, environ.get("QUERY_STRING", ""), body)
        if parts.is_bot(hit.user_agent):
            return Response(_RECEIVED, 202, bot_headers, content_type=_JSON)
        event = enrich(
            hit,
            salt=salts.get_or_create(hit.site_uuid, now.date()),
            address=visitor.client_address(
                environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR"), settings.trust_proxy
            ),
            now=now,
            parse_user_agent=parts.parse_user_agent,
            new_event_id=parts.new_event_id,
        )
        answer = delivery.accept(hit.query.name, msgspec.json.encode(event), hit.query.token)
        return Response(answer.body, answer.status, content_type=_JSON)

    def check_signature(secret: bytes, now: float) -> None:
        try:
            signed_url.verify(raw_target(), secret, now)
        except errors.UnsignedUrl as error:
            _log.warning("%s", error, extra={"event": "HmacValidationFailed"})
            if not settings.hmac_validation_log_only:
                raise

    @routes.route("/api/v1/page_hit", methods=["OPTIONS"], provide_automatic_options=False)
    @routes.route("/api/v1/page_hit/", methods=["OPTIONS"], provide_automatic_options=False)
    def preflight() -> Response:
        return Response(status=204, headers=_PREFLIGHT)

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
        salts.check()
        return Response('{"status":"ready"}', content_type=_JSON)

    return routes


def read_body() -> bytes:
    """Read the request's body, chunked or not, but no more of it than a page hit may have."""
    if (request.content_length or 0) > page_hit.BODY_LIMIT:
        raise errors.BodyTooLarge(f"body: must be at most {page_hit.BODY_LIMIT} bytes")
    try:
        body: bytes = request.environ["wsgi.input"].read(page_hit.BODY_LIMIT + 1)
    except OSError:
        raise errors.InvalidHit("body", "ended early or is not framed as HTTP") from None
    if len(body) > page_hit.BODY_LIMIT:
        raise errors.BodyTooLarge(f"body: must be at most {page_hit.BODY_LIMIT} bytes")
    return body


def raw_target() -> str:
    """Return the request target as it arrived: PATH_INFO is decoded already, and a signature covers the original."""
    target: str = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.full_path
    if not target.startswith("/"):  # the absolute form that proxies are sent: scheme://host/path
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target


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
                return error_response(400, "Bad Request", "a line is not JSON")
            _log.info("an event arrived", extra={"event": "LocalProxyEvent", "payload": event})
        return Response(json.dumps({"successful_rows": len(lines), "quarantined_rows": 0}), 202, content_type=_JSON)

    return routes


def handle_errors(app: Flask) -> None:
    """Answer every error as JSON and every request so that a browser lets the page see the answer."""

    @app.errorhandler(errors.AnalyticsError)
    def refuse(error: errors.AnalyticsError) -> Response:
        status, name = STATUS[type(error)]
        if isinstance(error, errors.UpstreamFailed):
            _log.error("an event was not taken: %s", error.reason, extra={"event": "ProxyError"})
            return Response('{"error":"Proxy error"}', status, content_type=_JSON)
        if isinstance(error, errors.SaltUnavailable):
            _log.error("no salt: %s", error, extra={"event": "SaltUnavailable"})
            return error_response(status, name, "the salt store cannot be used", {"retry-after": "5"})
        return error_response(status, name, str(error))

    @app.errorhandler(HTTPException)
    def not_a_route(error: HTTPException) -> Response:
        code = error.code or 500
        allow = [(name, value) for name, value in error.get_headers() if name.lower() == "allow"]
        return error_response(code, error.name, "no such route" if code == 404 else error.name, dict(allow))

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        _log.error("a defect of this service", exc_info=error, extra={"event": "UnhandledError"})
        return error_response(500, "Internal Server Error", "this is a defect of the service")

    @app.after_request
    def allow_any_origin(response: Response) -> Response:
        response.headers.extend(_CORS)
        return response


def error_response(
    status: HTTPStatus | int, name: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error in the one shape that all errors have."""
    said = {"error": name, "message": message, "statusCode": int(status)}
    return Response(json.dumps(said), int(status), headers, content_type=_JSON)
