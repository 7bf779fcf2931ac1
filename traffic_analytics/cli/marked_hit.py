"""Make hits, events and tokens of a site that is no blog's, so that no statistics count what a command sends."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from traffic_analytics.hits.enrich import enrich, iso_milliseconds
from traffic_analytics.hits.page_hit import TEST_SITE, Payload, Query, RawHit
from traffic_analytics.hits.user_agent import UNKNOWN, UserAgent
from traffic_analytics.tinybird.jwt import sign_claims

PATH = "/traffic-analytics-test/"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
"""User agent of a marked hit; one that names this program would be dropped as a bot's."""
TOKEN_SECONDS = 3_600.0
"""Time for which a token is valid, in seconds."""


def marked_event(data_source: str) -> bytes:
    """Make an event that every column of Ghost's data source accepts."""
    agent = "traffic-analytics check"
    payload = Payload(
        site_uuid=TEST_SITE,
        member_uuid="undefined",
        member_status="undefined",
        post_uuid="undefined",
        post_type="null",
        locale="en-US",
        location=None,
        pathname=PATH,
        href=f"https://example.com{PATH}",
        user_agent=agent,
    )
    event = enrich(
        RawHit(Query(data_source, None), TEST_SITE, agent, None, payload),
        agent=UserAgent(UNKNOWN, UNKNOWN, UNKNOWN),
        salt=uuid4().hex,
        address="",
        now=_now(),
        new_event_id=lambda: str(uuid4()),
    )
    return msgspec.json.encode(event)


def marked_hit(page: str, pathname: str) -> dict[str, object]:
    """Make the body that Ghost's script would post on a page, with another path."""
    payload = {
        "user-agent": BROWSER,
        "locale": "en-US",
        "location": None,
        "parsedReferrer": {"url": None, "source": None, "medium": None},
        "pathname": pathname,
        "href": page,
        "event_id": str(uuid4()),
        "site_uuid": TEST_SITE,
        "post_uuid": "undefined",
        "post_type": "null",
        "member_uuid": "undefined",
        "member_status": "undefined",
    }
    timestamp = iso_milliseconds(_now())
    return {"timestamp": timestamp, "action": "page_hit", "version": "1", "payload": payload}


def sign_for_test_site(admin_token: str, pipe: str) -> str:
    """Sign a token as Ghost does for its dashboard: it reads a pipe for the test site only."""
    claims = {
        "workspace_id": "self-hosted",
        "name": f"tinybird-jwt-{TEST_SITE}",
        "exp": int(_now().timestamp() + TOKEN_SECONDS),
        "scopes": [{"type": "PIPES:READ", "resource": pipe, "fixed_params": {"site_uuid": TEST_SITE}}],
    }
    return sign_claims(claims, admin_token)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - a command line is an edge
