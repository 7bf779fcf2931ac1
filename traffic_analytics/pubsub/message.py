"""Read a Pub/Sub message: an event of this service, or a raw hit of the Node service, which is still to be enriched."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from traffic_analytics.delivery.target import DATA_SOURCES
from traffic_analytics.errors import NoEvent
from traffic_analytics.hits.page_hit import Payload, Query, RawHit
from traffic_analytics.hits.visitor import read_address
from traffic_analytics.runtime.uuids import is_uuid

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH = 20
"""Nesting of a dead letter, in levels; the decoder accepts deeper nesting than Python's recursion allows."""
ATTRIBUTE = "data_source"
"""Attribute of a message that names the data source of its event."""


class Published(NamedTuple):
    """An event that the service published."""

    data_source: str
    event: bytes


class Unenriched(NamedTuple):
    """A hit with its address and time of arrival. It holds an address, so it never leaves memory."""

    hit: RawHit
    address: str
    arrived: datetime


class _EventPayload(msgspec.Struct):
    event_id: str
    site_uuid: str


class _Event(msgspec.Struct):
    """Fields that identify an event; Tinybird checks the others. `ip` and `meta` hold addresses and must be absent."""

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


class _RawPayload(Payload, frozen=True, kw_only=True):
    """Payload of a raw message; refusing a type of post that a newer Node service accepts would lose the hit."""

    post_type: str  # type: ignore[assignment]


class _Raw(msgspec.Struct):
    """A raw message of ghost/traffic-analytics; its payload lacks what stands beside it: site and user agent."""

    timestamp: datetime
    site_uuid: str
    payload: dict[str, msgspec.Raw]
    meta: _RawMeta


_BETWEEN_WORDS = re.compile(r"""[\s,;="'()<>\[\]]+""")

_event = msgspec.json.Decoder(_Event)
_raw = msgspec.json.Decoder(_Raw)
_payload = msgspec.json.Decoder(_RawPayload)
_received = msgspec.json.Decoder(_ReceivedMeta)
_NULL = msgspec.Raw(b"null")


def read(data: bytes, attributes: Mapping[str, str]) -> Published | Unenriched:
    """Read the event or raw hit of a message. Raises NoEvent, whose reason quotes nothing, if it holds neither."""
    data_source = attributes.get(ATTRIBUTE)
    if data_source is None:
        try:
            return _unenriched(_raw.decode(data))
        except (ValueError, OverflowError, RecursionError):
            data_source = DATA_SOURCES[0]  # perhaps an event without the attribute
    if data_source not in DATA_SOURCES:
        raise NoEvent("its data source is unknown")
    try:
        if not data.isascii():
            data.decode()  # the decoder does not check the encoding of fields that it skips
        _event.decode(data)
        # A batch is NDJSON: an event must not hold a line break.
        return Published(data_source, data if b"\n" not in data else msgspec.json.encode(msgspec.json.decode(data)))
    except (ValueError, RecursionError):
        raise NoEvent("it is neither an event nor a hit") from None


def without_address(data: bytes) -> bytes:
    """Reduce a message that is no event to JSON without addresses, fit for a dead letter."""
    try:
        content = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        content = None
    return msgspec.json.encode(_stripped(content) if isinstance(content, dict) else {"bytes": len(data)})


def _stripped(content: Any, depth: int = 0) -> Any:
    """Remove `ip` and `meta` at any depth, all other addresses, and values below MAX_DEPTH."""
    if isinstance(content, dict | list) and depth == MAX_DEPTH:
        return None
    if isinstance(content, dict):
        return {
            key: _stripped(value, depth + 1)
            for key, value in content.items()
            if key not in ("ip", "meta") and not _holds_address(key)
        }
    if isinstance(content, list):
        return [_stripped(value, depth + 1) for value in content]
    return None if isinstance(content, str) and _holds_address(content) else content


def _holds_address(text: str) -> bool:
    """Return whether a word of the text is an address, with or without a port, as in X-Forwarded-For and Forwarded."""
    for word in _BETWEEN_WORDS.split(text):
        for bare in (word, word.rpartition(":")[0]):
            with contextlib.suppress(ValueError):
                ip_address(bare)
                return True
    return False


def _unenriched(raw: _Raw) -> Unenriched:
    if not is_uuid(raw.site_uuid) or not raw.meta.ip or not raw.meta.user_agent:
        raise ValueError("no hit")
    fields: dict[str, object] = {**raw.payload, "site_uuid": raw.site_uuid, "user-agent": raw.meta.user_agent}
    if raw.payload.get("parsedReferrer") == _NULL:
        del fields["parsedReferrer"]
    payload = _payload.decode(msgspec.json.encode(fields))
    received = _ReceivedMeta() if isinstance(payload.meta, msgspec.UnsetType) else _received.decode(payload.meta)
    hit = RawHit(
        Query(DATA_SOURCES[0], None),
        raw.site_uuid,
        raw.meta.user_agent,
        _milliseconds(received.received_timestamp),
        payload,
    )
    arrived = raw.timestamp if raw.timestamp.tzinfo else raw.timestamp.replace(tzinfo=UTC)
    return Unenriched(hit, read_address(raw.meta.ip) or raw.meta.ip, arrived.astimezone(UTC))


def _milliseconds(moment: str | None) -> str | None:
    """Convert a timestamp to the form of the header x-ghost-analytics-start."""
    try:
        return str(round(datetime.fromisoformat(moment or "").timestamp() * 1000))
    except ValueError:
        return None
