"""Enrichment turns a hit into the event that Tinybird stores; from here on there is no address."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from traffic_analytics.hits import referrer, visitor
from traffic_analytics.hits.page_hit import ParsedReferrer, RawHit

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.hits.user_agent import UserAgent


class Meta(msgspec.Struct, frozen=True):
    """What is known of the hit's way to us."""

    received_timestamp: str | None


class EventPayload(msgspec.Struct, frozen=True, rename={"user_agent": "user-agent"}):
    """The payload of an event; the names are Tinybird's columns."""

    event_id: str
    site_uuid: str
    member_uuid: str
    member_status: str
    post_uuid: str
    post_type: str
    gift_link: str | None
    locale: str
    location: str | None
    pathname: str
    href: str
    parsedReferrer: ParsedReferrer | UnsetType  # noqa: N815
    os: str
    browser: str
    device: str
    referrerUrl: str | UnsetType | None  # noqa: N815
    referrerSource: str | UnsetType | None  # noqa: N815
    referrerMedium: str | UnsetType | None  # noqa: N815
    utm_source: str | None
    utm_medium: str | None
    utm_campaign: str | None
    utm_term: str | None
    utm_content: str | None
    user_agent: str
    meta: Meta


class Event(msgspec.Struct, frozen=True):
    """A page hit as Tinybird stores it. It holds no address."""

    timestamp: str
    action: str
    version: str
    site_uuid: str
    session_id: str
    payload: EventPayload


def enrich(
    hit: RawHit,
    *,
    agent: UserAgent,
    salt: str,
    address: str,
    now: datetime,
    new_event_id: Callable[[], str],
) -> Event:
    """Make the event of a hit: who, when, with what, from where.

    `salt` must be that of the site for the UTC day of `now`, the time at which the request arrived. The address is
    used for the visitor's name and goes no further.
    """
    payload = hit.payload
    url, source, medium = _referrer_fields(payload.parsedReferrer, payload.href)
    return Event(
        timestamp=iso_milliseconds(now),
        action="page_hit",
        version="1",
        site_uuid=hit.site_uuid,
        session_id=visitor.session_id(salt, hit.site_uuid, address, hit.user_agent),
        payload=EventPayload(
            event_id=_given_event_id(payload.event_id) or new_event_id(),
            site_uuid=hit.site_uuid,
            member_uuid=payload.member_uuid,
            member_status=payload.member_status,
            post_uuid=payload.post_uuid,
            post_type=payload.post_type,
            gift_link=payload.gift_link,
            locale=payload.locale,
            location=payload.location,
            pathname=payload.pathname,
            href=payload.href,
            parsedReferrer=payload.parsedReferrer,
            os=agent.os,
            browser=agent.browser,
            device=agent.device,
            referrerUrl=url,
            referrerSource=source,
            referrerMedium=medium,
            utm_source=payload.utm_source,
            utm_medium=payload.utm_medium,
            utm_campaign=payload.utm_campaign,
            utm_term=payload.utm_term,
            utm_content=payload.utm_content,
            user_agent=hit.user_agent,
            meta=Meta(_received_timestamp(hit.started_at)),
        ),
    )


def iso_milliseconds(moment: datetime) -> str:
    """Write a UTC moment as `2026-01-31T23:59:59.999Z`."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _referrer_fields(
    parsed: ParsedReferrer | UnsetType, href: str
) -> tuple[str | UnsetType | None, str | UnsetType | None, str | UnsetType | None]:
    if isinstance(parsed, UnsetType) or not parsed.url:
        return UNSET, UNSET, UNSET
    known = referrer.classify(parsed.url or None, parsed.source or None, parsed.medium or None, href)
    return known if known is not None else (UNSET, UNSET, UNSET)


def _given_event_id(raw: msgspec.Raw) -> str | None:
    """Read the sender's event id if it is text; the field may hold anything."""
    encoded = bytes(raw)
    if not encoded.startswith(b'"'):
        return None
    try:
        return msgspec.json.decode(encoded, type=str)
    except ValueError:  # bytes that are no UTF-8; nobody has looked at them before
        return None


def _received_timestamp(started_at: str | None) -> str | None:
    """Read x-ghost-analytics-start, milliseconds since 1970, as far as it is a date of this era."""
    if not started_at or len(started_at) > 14 or not (started_at.isascii() and started_at.isdigit()):
        return None
    milliseconds = int(started_at)
    return f"{datetime.fromtimestamp(milliseconds // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"
