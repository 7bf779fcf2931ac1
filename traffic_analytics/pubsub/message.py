"""A Pub/Sub message holds an event, or a hit that the Node service has left to be enriched, or nothing for us."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from traffic_analytics.delivery.target import DATA_SOURCES
from traffic_analytics.errors import NoEvent
from traffic_analytics.hits.page_hit import ParsedReferrer, Payload, Query, RawHit, is_uuid

if TYPE_CHECKING:
    from collections.abc import Mapping

DEEPEST_KEPT = 20
"""Levels that are kept of a message that is no event; the decoder goes deeper than Python does."""
ATTRIBUTE = "data_source"
"""The attribute of a message that names the data source of its event."""


class Published(NamedTuple):
    """An event as the service has published it."""

    data_source: str
    event: bytes


class Unenriched(NamedTuple):
    """A hit with all that its enrichment needs; it holds an address and is for memory only."""

    hit: RawHit
    address: str
    arrived: datetime


class _EventPayload(msgspec.Struct):
    event_id: str
    site_uuid: str


class _Event(msgspec.Struct):
    """As much of an event as tells it from anything else; Tinybird checks the rest. `ip` and `meta` hold addresses."""

    timestamp: str
    action: str
    site_uuid: str
    session_id: str
    payload: _EventPayload
    ip: msgspec.UnsetType = msgspec.UNSET
    meta: msgspec.UnsetType = msgspec.UNSET


class _RawMeta(msgspec.Struct, rename={"user_agent": "user-agent"}):
    ip: str
    user_agent: str


class _ReceivedMeta(msgspec.Struct):
    received_timestamp: str | None = None


class _RawPayload(msgspec.Struct):
    """What ghost/traffic-analytics keeps of a hit's payload; it has checked it before."""

    member_uuid: str
    member_status: str
    post_uuid: str
    post_type: str
    locale: str
    location: str | None
    pathname: str
    href: str
    event_id: msgspec.Raw = msgspec.Raw()
    referrer: str | None = None
    gift_link: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    parsedReferrer: ParsedReferrer | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815
    meta: _ReceivedMeta = msgspec.field(default_factory=_ReceivedMeta)


class _Raw(msgspec.Struct):
    timestamp: datetime
    site_uuid: str
    payload: _RawPayload
    meta: _RawMeta


_BETWEEN_WORDS = re.compile(r"""[\s,;="'()<>\[\]]+""")

_event = msgspec.json.Decoder(_Event)
_raw = msgspec.json.Decoder(_Raw)


def read(data: bytes, attributes: Mapping[str, str]) -> Published | Unenriched:
    """Read what a message holds. Raises NoEvent if it is neither, with a reason that quotes nothing."""
    data_source = attributes.get(ATTRIBUTE)
    if data_source is None:
        try:
            return _unenriched(_raw.decode(data))
        except (ValueError, OverflowError, RecursionError):
            data_source = DATA_SOURCES[0]  # an event from elsewhere, if it is one
    if data_source not in DATA_SOURCES:
        raise NoEvent("its data source is none of ours")
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look into what it passes over
        _event.decode(data)
        # One event is one line.
        return Published(data_source, data if b"\n" not in data else msgspec.json.encode(msgspec.json.decode(data)))
    except (ValueError, RecursionError):
        raise NoEvent("it is neither an event nor a hit") from None


def without_address(data: bytes) -> bytes:
    """Return what of a message that is no event may be kept for an operator: no address, and JSON only."""
    try:
        content = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        content = None
    return msgspec.json.encode(_stripped(content) if isinstance(content, dict) else {"bytes": len(data)})


def _stripped(content: Any, depth: int = 0) -> Any:
    """Leave out `ip` and `meta` at any depth, in which addresses travel, whatever else is one, and what is too deep."""
    if isinstance(content, dict | list) and depth == DEEPEST_KEPT:
        return None
    if isinstance(content, dict):
        kept = {key: value for key, value in content.items() if key not in ("ip", "meta") and not _holds_address(key)}
        return {key: _stripped(value, depth + 1) for key, value in kept.items()}
    if isinstance(content, list):
        return [_stripped(value, depth + 1) for value in content]
    return None if isinstance(content, str) and _holds_address(content) else content


def _holds_address(text: str) -> bool:
    """Find out whether a word of a text is an address, as in X-Forwarded-For and Forwarded, with a port or without."""
    for word in _BETWEEN_WORDS.split(text):
        for bare in (word, word.rpartition(":")[0]):
            with contextlib.suppress(ValueError):
                ip_address(bare)
                return True
    return False


def _unenriched(raw: _Raw) -> Unenriched:
    payload = raw.payload
    if not is_uuid(raw.site_uuid) or not raw.meta.ip or not raw.meta.user_agent:
        raise ValueError("no hit")
    hit = RawHit(
        Query(DATA_SOURCES[0], None),
        raw.site_uuid,
        raw.meta.user_agent,
        _milliseconds(payload.meta.received_timestamp),
        Payload(
            user_agent=raw.meta.user_agent,
            locale=payload.locale,
            location=payload.location,
            pathname=payload.pathname,
            href=payload.href,
            site_uuid=raw.site_uuid,
            post_uuid=payload.post_uuid,
            member_uuid=payload.member_uuid,
            post_type=payload.post_type,  # type: ignore[arg-type] # the sender has checked it
            member_status=payload.member_status,
            event_id=payload.event_id,
            referrer=payload.referrer,
            gift_link=payload.gift_link,
            utm_source=payload.utm_source,
            utm_medium=payload.utm_medium,
            utm_campaign=payload.utm_campaign,
            utm_term=payload.utm_term,
            utm_content=payload.utm_content,
            parsedReferrer=payload.parsedReferrer or msgspec.UNSET,
        ),
    )
    arrived = raw.timestamp if raw.timestamp.tzinfo else raw.timestamp.replace(tzinfo=UTC)
    return Unenriched(hit, raw.meta.ip, arrived.astimezone(UTC))


def _milliseconds(moment: str | None) -> str | None:
    """Write a moment as the header x-ghost-analytics-start, from which it was made."""
    try:
        return str(round(datetime.fromisoformat(moment or "").timestamp() * 1000))
    except ValueError:
        return None
