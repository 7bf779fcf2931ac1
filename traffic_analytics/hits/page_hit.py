"""Parse a page hit: check the request against the contract, and refuse a violation with its place and rule."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, UnsetType

from traffic_analytics.delivery.target import DATA_SOURCES
from traffic_analytics.errors import InvalidHit, UnsupportedMediaType
from traffic_analytics.runtime.uuids import is_uuid

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY_LIMIT = 20_480
"""Size of the largest accepted body, in bytes."""
TEST_SITE = "00000000-0000-4000-8000-000000000000"
"""Site of the hits that `check` and `doctor` send: no blog's, and accepted beside ALLOWED_SITES."""
DATE_AND_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
"""Pattern of a date and time in seconds, as JavaScript's toISOString writes it."""

_TIMESTAMP = re.compile(DATE_AND_TIME + r"\.[0-9]{3}Z")

Derived: TypeAlias = msgspec.Raw | UnsetType
"""Type of a field that `enrich` fills in; the decoder accepts any JSON there and does not look into it."""


class ParsedReferrer(msgspec.Struct, frozen=True):
    """Referrer as ghost-stats.js reads it from the page; a member that was not sent stays unset."""

    source: str | UnsetType | None = UNSET
    medium: str | UnsetType | None = UNSET
    url: str | UnsetType | None = UNSET


NO_REFERRER = ParsedReferrer(None, None, None)
"""Referrer of a hit that was sent without one, as an event holds it."""


class Payload(msgspec.Struct, frozen=True, kw_only=True, rename={"user_agent": "user-agent"}):
    """Payload of a hit and of its event: the one list of the fields, in the order in which an event holds them.

    The names are Tinybird's columns. `enrich` replaces every `Derived` field, also one that the client sent; only
    `event_id` is read before.
    """

    event_id: Derived = UNSET
    site_uuid: str
    member_uuid: str
    member_status: str
    post_uuid: str
    post_type: Literal["null", "post", "page"]
    gift_link: str | None = None
    locale: str
    location: str | None
    pathname: str
    href: str
    parsedReferrer: ParsedReferrer = NO_REFERRER  # noqa: N815 - the field's name on the wire
    os: Derived = UNSET
    browser: Derived = UNSET
    device: Derived = UNSET
    referrerUrl: Derived = UNSET  # noqa: N815
    referrerSource: Derived = UNSET  # noqa: N815
    referrerMedium: Derived = UNSET  # noqa: N815
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    user_agent: str
    meta: Derived = UNSET
    referrer: str | UnsetType | None = UNSET
    """Checked, but no column: an event does not hold it."""


class Body(msgspec.Struct, frozen=True):
    """Body of a page hit."""

    timestamp: str
    action: Literal["page_hit"]
    version: Literal["1"]
    payload: Payload
    session_id: str = ""


class Query(NamedTuple):
    """Query of a hit's URL: the data source, and the client's own Tinybird token if it sends one."""

    name: str
    token: str | None


class RawHit(msgspec.Struct, frozen=True):
    """A hit that is checked but not enriched."""

    query: Query
    site_uuid: str
    user_agent: str
    started_at: str | None
    payload: Payload


_decoder = msgspec.json.Decoder(Body)


def parse(environ: Mapping[str, str], query: str, body: bytes) -> RawHit:
    """Check a request against the contract.

    `environ` holds the headers under their CGI names, as WSGI and RFC 3875 do. Raises InvalidHit or
    UnsupportedMediaType, and no other error for any input.
    """
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("content-type: must be application/json")
    checked_query = parse_query(query)
    site_uuid = environ.get("HTTP_X_SITE_UUID", "")
    if not is_uuid(site_uuid):
        raise InvalidHit("headers.x-site-uuid", "must be a UUID")
    user_agent = environ.get("HTTP_USER_AGENT", "")
    if not user_agent.strip():
        raise InvalidHit("headers.user-agent", "must not be blank")
    payload = parse_body(body).payload
    return RawHit(checked_query, site_uuid, user_agent, environ.get("HTTP_X_GHOST_ANALYTICS_START"), payload)


def parse_query(query: str) -> Query:
    """Read the data source and the token from a query string."""
    if query == "name=analytics_events":  # the query of every Ghost; parsing it costs time
        return Query("analytics_events", None)
    pairs = parse_qsl(query, keep_blank_values=True)
    names = [value for key, value in pairs if key == "name"]
    if len(names) != 1 or names[0] not in DATA_SOURCES:
        raise InvalidHit("query.name", f"must be exactly one of {', '.join(DATA_SOURCES)}")
    tokens = [value for key, value in pairs if key == "token"]
    if len(tokens) > 1 or (tokens and not tokens[0].strip()):
        raise InvalidHit("query.token", "must be given at most once and not be blank")
    return Query(names[0], tokens[0] if tokens else None)


def parse_body(body: bytes) -> Body:
    """Decode and check a body."""
    hit = _decode(body)
    payload = hit.payload
    if not _TIMESTAMP.fullmatch(hit.timestamp) or not is_date(hit.timestamp):
        raise InvalidHit("body.timestamp", "must be a date and time like 2026-01-31T23:59:59.999Z")
    for place, value in (
        ("user-agent", payload.user_agent),
        ("locale", payload.locale),
        ("pathname", payload.pathname),
        ("location", payload.location),
    ):
        if value is not None and not value.strip():
            raise InvalidHit(f"body.payload.{place}", "must not be blank")
    if not is_uuid(payload.site_uuid):
        raise InvalidHit("body.payload.site_uuid", "must be a UUID")
    if payload.post_uuid != "undefined" and not is_uuid(payload.post_uuid):
        raise InvalidHit("body.payload.post_uuid", 'must be a UUID or "undefined"')
    if payload.member_uuid != "undefined" and not is_uuid(payload.member_uuid):
        raise InvalidHit("body.payload.member_uuid", 'must be a UUID or "undefined"')
    if not payload.member_status:
        raise InvalidHit("body.payload.member_status", "must not be empty")
    return hit


def _decode(body: bytes) -> Body:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _refusal(error) from None
    except (ValueError, RecursionError):
        pass
    # JSON.stringify escapes half of a cut emoji as a lone surrogate: valid JSON, which msgspec refuses. Replace it.
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
        return _decoder.decode(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except msgspec.ValidationError as error:
        raise _refusal(error) from None
    except (ValueError, RecursionError):
        raise InvalidHit("body", "must be a JSON object") from None


_RULE_AND_PLACE = re.compile(r"(?P<rule>.*?)(?: - at `\$(?P<place>.*)`)?", re.DOTALL)
_CHOICES = {
    ".action": 'must be "page_hit"',
    ".version": 'must be "1"',
    ".payload.post_type": 'must be "null", "post" or "page"',
}


def _refusal(error: msgspec.ValidationError) -> InvalidHit:
    place, rule = place_and_rule(error)
    return InvalidHit(f"body{place}", _CHOICES[place] if rule.startswith("Invalid enum value") else rule)


def place_and_rule(error: msgspec.ValidationError) -> tuple[str, str]:
    """Split a message of msgspec; only the rule "Invalid enum value" quotes the client's data."""
    match = _RULE_AND_PLACE.fullmatch(str(error))
    rule = match["rule"] if match else ""
    rule = rule.replace("`", "").replace("Expected", "must be", 1).replace("Object missing", "misses", 1)
    return (match["place"] or "") if match else "", rule


def is_date(timestamp: str) -> bool:
    """Return whether a timestamp of the right form names an existing day and time."""
    try:
        datetime.fromisoformat(timestamp)
    except ValueError:
        return False
    return True
