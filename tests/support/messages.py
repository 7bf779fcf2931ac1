"""Build the messages that services publish."""

from __future__ import annotations

import json
from typing import Any

from tests.support.app import FIREFOX, SITE

ADDRESS = "203.0.113.77"

EVENT: dict[str, Any] = {
    "timestamp": "2026-11-22T12:30:15.123Z",
    "action": "page_hit",
    "version": "1",
    "site_uuid": SITE,
    "session_id": "5e55",
    "payload": {"event_id": "e", "site_uuid": SITE, "pathname": "/"},
}

PAYLOAD: dict[str, Any] = {
    "event_id": "e",
    "member_uuid": "undefined",
    "member_status": "undefined",
    "post_uuid": "undefined",
    "post_type": "null",
    "locale": "en-US",
    "location": None,
    "referrer": None,
    "pathname": "/",
    "href": "https://blog.example/",
    "meta": {"received_timestamp": "2026-11-22T00:30:13.714Z"},
}

RAW: dict[str, Any] = {
    "timestamp": "2026-11-22T23:59:59.999Z",
    "action": "page_hit",
    "version": "1",
    "site_uuid": SITE,
    "payload": PAYLOAD,
    "meta": {"ip": ADDRESS, "user-agent": FIREFOX},
}


def encoded(content: object) -> bytes:
    return json.dumps(content).encode()
