"""Handle one hit, from top to bottom in the order of the steps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from traffic_analytics import errors
from traffic_analytics.delivery.target import RECEIVED
from traffic_analytics.hits import page_hit, signed_url, visitor
from traffic_analytics.hits.enrich import enrich
from traffic_analytics.hits.outcomes import BOT, SPAM, ignore_outcome
from traffic_analytics.hits.own_visits import OwnVisits
from traffic_analytics.hits.referrer_spam import ReferrerSpam
from traffic_analytics.wsgi import Answer, answer_to

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from traffic_analytics.delivery.target import Delivery, Outcome, PendingEvent
    from traffic_analytics.hits.outcomes import Counted, OnOutcome
    from traffic_analytics.hits.page_hit import RawHit
    from traffic_analytics.hits.user_agent import UserAgent
    from traffic_analytics.salts.cache import Salts
    from traffic_analytics.settings import Settings

_log = logging.getLogger(__name__)


class Submitted(NamedTuple):
    """A hit whose event is on its way."""

    event: PendingEvent
    data_source: str
    site: str


class HitEndpoint:
    """Handler of hits, from the WSGI environment to the response."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        salts: Salts,
        delivery: Delivery,
        parse_user_agent: Callable[[str], UserAgent],
        new_event_id: Callable[[], str],
        on_outcome: OnOutcome = ignore_outcome,
    ) -> None:
        self._clock = clock
        self._salts = salts
        self._delivery = delivery
        self._parse_user_agent = parse_user_agent
        self._new_event_id = new_event_id
        self._on_outcome = on_outcome
        self._trust_proxy = settings.trust_proxy
        self._hmac_secret = settings.hmac_secret.encode() if settings.hmac_secret else None
        self._hmac_log_only = settings.hmac_validation_log_only
        self._allowed_sites: frozenset[str] | None = None
        if settings.allowed_sites is not None:
            self._allowed_sites = settings.allowed_sites | {page_hit.TEST_SITE}
        self._own_visits = OwnVisits(settings.ignore_addresses, settings.ignore_paths)
        self._spam = ReferrerSpam(settings.extra_referrers)
        self._bot_headers = (("x-ghost-bot-detected", "true"),) if settings.enable_bot_detection_header else ()

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Return the response to one request, after its event is delivered or stored; never raises."""
        hit = self.receive(environ)
        return hit if isinstance(hit, Answer) else self.answer(hit.event.wait(), hit.data_source, hit.site)

    def receive(self, environ: dict[str, Any]) -> Answer | Submitted:
        """Check and enrich a hit and submit its event; a bot or an error is answered at once. Never raises."""
        try:
            return self._receive(environ)
        except Exception as error:  # noqa: BLE001 - the client gets a response, and the log the stack
            return self._fail(error, environ.get("HTTP_X_SITE_UUID", ""))

    def answer(self, outcome: Outcome | Exception, data_source: str, site: str) -> Answer:
        """Return the response to a hit with the outcome of its event; never raises."""
        if isinstance(outcome, Exception):
            return self._fail(outcome, site)
        if outcome is None:
            self._on_outcome("spooled", data_source, site=site)
            return _STORED
        self._on_outcome("delivered", data_source, site=site)
        return Answer(outcome.status, outcome.body)

    def _fail(self, error: Exception, site: str) -> Answer:
        self._on_outcome("failed", error=error, site=site)
        return answer_to(error)

    def _receive(self, environ: dict[str, Any]) -> Answer | Submitted:
        now = self._clock()
        body = read_body(environ)
        if self._hmac_secret is not None:
            self._check_signature(environ, self._hmac_secret, now.timestamp())
        hit = page_hit.parse(environ, environ.get("QUERY_STRING", ""), body)
        if self._allowed_sites is not None and hit.site_uuid.lower() not in self._allowed_sites:
            raise errors.SiteNotAllowed("headers.x-site-uuid: this service accepts no hits of this site")
        agent = self._parse_user_agent(hit.user_agent)
        address = visitor.client_address(
            environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR"), self._trust_proxy
        )
        ignored = self._ignore(hit, agent, address)
        if ignored is not None:
            self._on_outcome(ignored.outcome, rule=ignored.rule, site=hit.site_uuid)
            return Answer(202, RECEIVED, self._bot_headers if ignored is BOT else ())
        event = enrich(
            hit,
            agent=agent,
            salt=self._salts.get_or_create(hit.site_uuid, now.date()),
            address=address,
            now=now,
            new_event_id=self._new_event_id,
        )
        data_source, token = hit.query
        pending = self._delivery.submit(data_source, msgspec.json.encode(event), token)
        return Submitted(pending, data_source, hit.site_uuid)

    def _ignore(self, hit: RawHit, agent: UserAgent, address: str) -> Counted | None:
        """Return what a hit that is no visit counts as; None for a visit."""
        if agent.device == "bot":
            return BOT
        own = self._own_visits.find(address, hit.payload.pathname)
        if own is not None:
            return own
        return SPAM if self._spam.lists(hit.payload.parsedReferrer) else None

    def _check_signature(self, environ: dict[str, Any], secret: bytes, now: float) -> None:
        try:
            signed_url.verify(raw_target(environ), secret, now)
        except errors.UnsignedUrl as error:
            _log.warning("%s", error, extra={"event": "HmacValidationFailed"})
            if not self._hmac_log_only:
                raise


_STORED = Answer(202, RECEIVED)


def read_body(environ: dict[str, Any], limit: int = page_hit.BODY_LIMIT) -> bytes:
    """Read the request's body, chunked or not, up to the limit. Raises BodyTooLarge or InvalidHit."""
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
        raise errors.InvalidHit("body", "ended early or is not framed as HTTP requires") from None
    if len(body) > limit:
        raise errors.BodyTooLarge(f"body: must be at most {limit} bytes")
    return body


def raw_target(environ: dict[str, Any]) -> str:
    """Return the request target as it arrived: a signature covers the original, and PATH_INFO is decoded."""
    target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if not target.startswith("/"):  # absolute form, as clients send it to proxies: scheme://host/path
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target
