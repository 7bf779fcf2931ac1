"""One hit crosses this file from top to bottom, in the order in which things happen to it."""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from traffic_analytics import errors, page_hit, signed_url, visitor
from traffic_analytics.enrich import enrich
from traffic_analytics.page_hit import RECEIVED

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from traffic_analytics.delivery import Delivery
    from traffic_analytics.salts import Salts
    from traffic_analytics.settings import Settings
    from traffic_analytics.user_agent import UserAgent

_log = logging.getLogger(__name__)

STATUS: dict[type[errors.AnalyticsError], tuple[int, str]] = {
    errors.InvalidHit: (400, "Bad Request"),
    errors.UnsignedUrl: (401, "Unauthorized"),
    errors.BodyTooLarge: (413, "Payload Too Large"),
    errors.UnsupportedMediaType: (415, "Unsupported Media Type"),
    errors.UpstreamFailed: (502, "Proxy error"),
    errors.SaltUnavailable: (503, "Service Unavailable"),
    errors.SpoolUnavailable: (503, "Service Unavailable"),
    errors.NotSubscribed: (503, "Service Unavailable"),
    errors.InvalidQuestion: (400, "Bad Request"),
    errors.TokenRefused: (403, "Forbidden"),
    errors.UnknownPipe: (404, "Not Found"),
    errors.TargetIsOurselves: (508, "Loop Detected"),
    errors.KeyRefused: (401, "Unauthorized"),
    errors.InvalidRows: (400, "Bad Request"),
    errors.SyncDelayed: (503, "Service Unavailable"),
    errors.SyncFailed: (502, "Bad Gateway"),
}
"""What each error means to the sender. Those that are not here stop the start and never meet a request."""


class Answer(NamedTuple):
    """What the sender gets: always JSON, readable by any page."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class HitEndpoint:
    """Takes a hit from its WSGI environment to its answer."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        salts: Salts,
        delivery: Delivery,
        parse_user_agent: Callable[[str], UserAgent],
        new_event_id: Callable[[], str],
        answer_error: Callable[[Exception], Answer] | None = None,
    ) -> None:
        self._clock = clock
        self._salts = salts
        self._delivery = delivery
        self._parse_user_agent = parse_user_agent
        self._new_event_id = new_event_id
        self._answer_error = answer_error or answer_to
        self._trust_proxy = settings.trust_proxy
        self._hmac_secret = settings.hmac_secret.encode() if settings.hmac_secret else None
        self._hmac_log_only = settings.hmac_validation_log_only
        self._bot_headers = (("x-ghost-bot-detected", "true"),) if settings.enable_bot_detection_header else ()

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Answer one request, whatever is in it."""
        try:
            return self._receive(environ)
        except errors.AnalyticsError as error:
            return self._answer_error(error)
        except Exception as error:  # noqa: BLE001 - the last line: the sender gets an answer, and we the trace
            return self._answer_error(error)

    def _receive(self, environ: dict[str, Any]) -> Answer:
        now = self._clock()
        body = read_body(environ)
        if self._hmac_secret is not None:
            self._check_signature(environ, self._hmac_secret, now.timestamp())
        hit = page_hit.parse(environ, environ.get("QUERY_STRING", ""), body)
        agent = self._parse_user_agent(hit.user_agent)
        if agent.device == "bot":
            return Answer(202, RECEIVED, self._bot_headers)
        event = enrich(
            hit,
            agent=agent,
            salt=self._salts.get_or_create(hit.site_uuid, now.date()),
            address=visitor.client_address(
                environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR"), self._trust_proxy
            ),
            now=now,
            new_event_id=self._new_event_id,
        )
        reply = self._delivery.accept(hit.query.name, msgspec.json.encode(event), hit.query.token)
        return Answer(reply.status, reply.body) if reply is not None else Answer(202, RECEIVED)

    def _check_signature(self, environ: dict[str, Any], secret: bytes, now: float) -> None:
        try:
            signed_url.verify(raw_target(environ), secret, now)
        except errors.UnsignedUrl as error:
            _log.warning("%s", error, extra={"event": "HmacValidationFailed"})
            if not self._hmac_log_only:
                raise


def read_body(environ: dict[str, Any], limit: int = page_hit.BODY_LIMIT) -> bytes:
    """Read the request's body, chunked or not, but no more of it than it may have."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length:
        if not (length.isascii() and length.isdigit()):
            raise errors.InvalidHit("headers.content-length", "must be a number")
        if len(length) > 1000 or int(length) > limit:
            raise errors.BodyTooLarge(f"body: must be at most {limit} bytes")
        to_read = int(length)
    elif environ.get("wsgi.input_terminated"):  # chunked: the server marks the end
        to_read = limit + 1
    else:
        to_read = 0
    try:
        body: bytes = environ["wsgi.input"].read(to_read)
    except OSError:
        raise errors.InvalidHit("body", "ended early or is not framed as HTTP") from None
    if len(body) > limit:
        raise errors.BodyTooLarge(f"body: must be at most {limit} bytes")
    return body


def raw_target(environ: dict[str, Any]) -> str:
    """Return the request target as it arrived: PATH_INFO is decoded already, and a signature covers the original."""
    target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if not target.startswith("/"):  # the absolute form that proxies are sent: scheme://host/path
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target


def answer_to(error: Exception) -> Answer:
    """Turn an error into what the sender is told, and tell the operator what is none of the sender's business."""
    if not isinstance(error, errors.AnalyticsError) or type(error) not in STATUS:
        _log.error("a defect of this service", exc_info=error, extra={"event": "UnhandledError"})
        return error_answer(500, "Internal Server Error", "this is a defect of the service")
    status, name = STATUS[type(error)]
    match error:
        case errors.UpstreamFailed():
            _log.error("an event was not taken: %s", error, extra={"event": "ProxyError"})
            return Answer(status, b'{"error":"Proxy error"}')
        case errors.SaltUnavailable():
            _log.error("no salt: %s", error, extra={"event": "SaltUnavailable"})
            return error_answer(status, name, "the salt store cannot be used", (("retry-after", "5"),))
        case errors.SpoolUnavailable():
            _log.error("no spool: %s", error, extra={"event": "SpoolUnavailable"})
            return error_answer(status, name, "the spool is full or cannot be used", (("retry-after", "5"),))
        case errors.SyncDelayed(retry_after=seconds):
            return error_answer(status, name, str(error), (("retry-after", str(math.ceil(seconds))),))
    return error_answer(status, name, str(error))


def error_answer(status: int, name: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Return an error in the one shape that all errors have."""
    said = {"error": name, "message": message, "statusCode": status}
    return Answer(status, json.dumps(said).encode(), headers)
