"""Enrich a hit into the event that Tinybird stores; the event holds no address."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from traffic_analytics.hits import referrer, visitor
from traffic_analytics.hits.page_hit import Derived, ParsedReferrer, Payload, RawHit

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.hits.user_agent import UserAgent


STARTS = range(315_532_800_000, 10_413_792_000_000)
"""Range of x-ghost-analytics-start, in milliseconds since 1970: the years 1980 to 2299.

The column's type holds no others, and the header is optional: a value outside is left out, and the hit counts.
"""


class Meta(msgspec.Struct, frozen=True):
    """Facts about the transport of a hit."""

    received_timestamp: str | None


class Event(msgspec.Struct, frozen=True):
    """A page hit as Tinybird stores it. It holds no address."""

    timestamp: str
    action: str
    version: str
    site_uuid: str
    session_id: str
    payload: Payload


def enrich(
    hit: RawHit,
    *,
    agent: UserAgent,
    salt: str,
    address: str,
    now: datetime,
    new_event_id: Callable[[], str],
) -> Event:
    """Build the event of a hit.

    `salt` must be that of the site for the UTC day of `now`, the time at which the request arrived. The address only
    serves to derive the session id; the event does not hold it.
    """
    payload = hit.payload
    url, source, medium = _referrer_fields(payload.parsedReferrer, payload.href)
    return Event(
        timestamp=iso_milliseconds(now),
        action="page_hit",
        version="1",
        site_uuid=hit.site_uuid,
        session_id=visitor.session_id(salt, hit.site_uuid, address, hit.user_agent),
        # Every derived field is set, or a client could choose it.
        payload=msgspec.structs.replace(
            payload,
            event_id=_client_event_id(payload.event_id) or new_event_id(),
            site_uuid=hit.site_uuid,
            os=agent.os,
            browser=agent.browser,
            device=agent.device,
            referrerUrl=url,
            referrerSource=source,
            referrerMedium=medium,
            user_agent=hit.user_agent,
            meta=Meta(_received_timestamp(hit.started_at)),
            referrer=UNSET,
        ),
    )


def iso_milliseconds(moment: datetime) -> str:
    """Format a UTC moment as `2026-01-31T23:59:59.999Z`."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _referrer_fields(
    parsed: ParsedReferrer, href: str
) -> tuple[str | UnsetType | None, str | UnsetType | None, str | UnsetType | None]:
    if not parsed.url:
        return UNSET, UNSET, UNSET
    classified = referrer.classify(parsed.url or None, parsed.source or None, parsed.medium or None, href)
    return classified if classified is not None else (UNSET, UNSET, UNSET)


def _client_event_id(raw: Derived) -> str | None:
    """Read the client's event id if it is text; the field may hold any JSON."""
    encoded = b"" if isinstance(raw, UnsetType) else bytes(raw)
    if not encoded.startswith(b'"'):
        return None
    try:
        return msgspec.json.decode(encoded, type=str)
    except ValueError:  # invalid UTF-8, which the decoder does not check in a raw field
        return None


def _received_timestamp(started_at: str | None) -> str | None:
    """Convert x-ghost-analytics-start, in milliseconds since 1970; None if it is no number or outside STARTS."""
    if not started_at or len(started_at) > 14 or not (started_at.isascii() and started_at.isdigit()):
        return None
    milliseconds = int(started_at)
    if milliseconds not in STARTS:
        return None
    return f"{datetime.fromtimestamp(milliseconds // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"
