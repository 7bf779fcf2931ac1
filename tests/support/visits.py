"""Draw visits of the days before now, as the store receives their events and as the reference computes with them."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import requests

from tests.support.service import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGES = (
    "/",
    "/about/",
    "/slow-bread/",
    "/field-notes/",
    "/tides/",
    "/the-long-walk/",
    "/letters/",
    "/maps/",
    "/archive/",
    "/tag/food/",
)
CHOICES: dict[str, tuple[str, ...]] = {
    "source": ("", "", "", "Google", "Google", "Bluesky", "Reddit", "news.ycombinator.com", "Mastodon"),
    "location": ("US", "US", "US", "DE", "DE", "GB", "FR", "IN", "BR", "JP", "CA", "AU", "SE", ""),
    "device": ("desktop", "desktop", "mobile-ios", "mobile-android", "unknown"),
    "browser": ("chrome", "chrome", "firefox", "safari"),
    "os": ("windows", "macos", "ios", "android", "linux"),
    "utm_campaign": ("", "", "", "spring", "launch"),
    "utm_source": ("", "", "newsletter", "partner"),
    "utm_medium": ("", "", "email"),
    "utm_content": ("", "", "top-link"),
    "utm_term": ("", "", "bread"),
}
Hit = dict[str, Any]


def draw_visits(site: str, now: datetime, *, days: int, visits: int, seed: int = 1) -> list[Hit]:
    """Draw visits of one to four hits; the last is a moment ago."""
    rng = random.Random(f"{site} {seed}")
    hits = []
    for number in range(visits):
        begins = now - timedelta(seconds=rng.uniform(3600, days * 86_400) if number else 60)
        if rng.random() < 0.3:
            begins = begins.replace(hour=rng.choice([8, 9, 12, 19, 20]))
        visitor = {name: rng.choice(values) for name, values in CHOICES.items()}
        for page in range(rng.choice([1, 1, 2, 3, 4])):
            at = min(begins + timedelta(seconds=page * rng.randrange(10, 200)), now - timedelta(seconds=30))
            at = at.replace(microsecond=at.microsecond // 1000 * 1000)
            # A visitor of a new day is another session, and sessions do not span days.
            session = f"{site}-{seed}-{number}-{at:%Y-%m-%d}"
            hits.append(
                {"site_uuid": site, "session_id": session, "at": at, **visitor}
                | {
                    "pathname": PAGES[int(rng.random() ** 2 * len(PAGES))],
                    "post_uuid": "undefined",
                    "post_type": "post",
                }
                | {"member_status": "undefined", "gift_link": ""}
            )
    return hits


def as_event(hit: Hit, host: str) -> dict[str, Any]:
    """Return the event that the service sends for a hit."""
    payload = {name: value or None for name, value in hit.items() if name not in {"at", "session_id", "source"}}
    payload |= {"referrerSource": hit["source"] or None, "href": f"https://{host}{hit['pathname']}"}
    at = hit["at"].astimezone(UTC)
    timestamp = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    return {
        "timestamp": timestamp,
        "action": "page_hit",
        "version": "1",
        "session_id": hit["session_id"],
        "payload": payload,
    }


def store_visits(store_url: str, hits: Iterable[Hit], host: str) -> None:
    """Append the events of hits to a store."""
    body = "".join(json.dumps(as_event(hit, host)) + "\n" for hit in hits)
    url = f"{store_url}/v0/events?name=analytics_events&wait=true"
    response = requests.post(url, data=body.encode(), headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    assert response.json()["quarantined_rows"] == 0, response.text


def now_utc() -> datetime:
    """Return the current time, by which processes count."""
    return datetime.now(UTC)  # noqa: TID251 - the clock of the processes
