"""Draw events of a few blogs: around clock changes, over midnight, late, with missing and odd fields."""

import random
import uuid
from datetime import date, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 20, 15, 37, 11)  # noqa: DTZ001 - UTC without a zone, as in the store
SITES = ("0d0f8d7e-5d0c-4d3f-9f57-0123456789ab", "mock_site_uuid", "site'quote\\", "sité-ünï")
SITE_WEIGHTS = (6, 5, 1, 1)
BUSY_DAYS = tuple(
    date.fromisoformat(day)
    for day in (
        "2011-12-29", "2015-08-15", "2016-05-01", "2018-02-18", "2018-11-04", "2024-03-10", "2024-03-31", "2024-04-07",
        "2024-04-26", "2024-10-06", "2024-10-27", "2024-11-03", "2025-03-09", "2025-10-26", "2026-03-29", "2026-07-01",
    )
)  # fmt: skip
"""Days on which clocks changed somewhere, and one on which none did."""
POSTS = {"/about/": "a87ff679-a2f3-471d-9181-a67b7542122c", "/post-1/": "8f14e45f-ceea-467f-ab87-1d4b0ac6e0a6",
         "/post-2/": "c4ca4238-a0b9-4382-8dcc-509a6f75849b"}  # fmt: skip
UTM = (None, None, None, "", "google", "face book", "ñ", "a'b")
VALUES: dict[str, tuple[str | None, ...]] = {
    "pathname": (*POSTS, "/", "/p/ünï-cødé/", "/p/%20x'y/", "/P/Case/", "/post-1", "", None),
    "member_status": ("undefined", "free", "paid", "comped", "gift", "", None),
    "member_uuid": ("undefined", "m-1", None),
    "post_type": ("post", "page", "", None, "null"),
    "gift_link": (None, None, None, "", "gift-1", "gift-2", "ünï"),
    "location": ("US", "DE", "GB", "", "Ünknown", None),
    "device": ("desktop", "mobile-ios", "bot", "", None),
    "referrerSource": ("", "", "Google", "www.facebook.com", "Twitter", "newsletter-x", "example.org", "Ünï", None),
    "utm_source": UTM, "utm_medium": UTM, "utm_campaign": UTM, "utm_term": UTM, "utm_content": UTM,
}  # fmt: skip


def draw_events(rng: random.Random, sessions: int) -> list[dict[str, Any]]:
    """Draw the events of a number of sessions, in no order; no two hits of a session share a millisecond."""
    return [event for _ in range(sessions) for event in _draw_session(rng)]


def _draw_session(rng: random.Random) -> list[dict[str, Any]]:
    day = NOW.date() - timedelta(days=int(12 * rng.random() ** 1.5))
    if rng.random() < 0.55:
        day = rng.choice(BUSY_DAYS) + timedelta(days=rng.choice((-2, -1, -1, 0, 0, 0, 0, 1, 1, 2)))
    at = datetime(day.year, day.month, day.day) + timedelta(seconds=rng.randrange(86_400))  # noqa: DTZ001
    site = rng.choices(SITES, SITE_WEIGHTS)[0]
    # Not 64 digits, as the service's, which begin a new session after some days without a hit.
    session_id = f"{rng.getrandbits(128):032x}" if rng.random() < 0.98 else f"session-ä'{rng.randrange(30)}"
    events = []
    for _ in range(min(9, 1 + int(rng.expovariate(0.5)))):
        if at > NOW + timedelta(hours=2):
            break
        events.append(_draw_event(rng, site, session_id, at + timedelta(milliseconds=rng.randrange(1_000))))
        pause = rng.choice((1, 5, 30, 60, 600, 1_500, 3_600, 7_200)) * (1 + rng.random())
        if rng.random() < 0.06:
            pause += 86_400 * rng.choice((1, 1, 2, 5, 30, 200))
        at += timedelta(seconds=int(pause))
    return events


def _draw_event(rng: random.Random, site: str, session_id: str, at: datetime) -> dict[str, Any]:
    payload: dict[str, Any] = {name: rng.choice(values) for name, values in VALUES.items()}
    payload["post_uuid"] = POSTS.get(payload["pathname"] or "", rng.choice(("undefined", "undefined", "", None)))
    for name in rng.sample(sorted(payload), rng.choice((0, 0, 0, 0, 2, 6))):
        del payload[name]
    received = at + timedelta(milliseconds=rng.randrange(900))
    # A tenth of the hits is stored before it was received, another tenth much later.
    late = rng.choices((0, -2_000, 50 * 3_600_000), (8, 1, 1))[0]
    stored = received + timedelta(milliseconds=int(rng.expovariate(1 / 80) + late * rng.random()))
    meta: dict[str, Any] | None = {"received_timestamp": _stamp(received)}
    if rng.random() < 0.1:
        meta = rng.choice((None, {}, {"received_timestamp": None}, {"received_timestamp": ""}))
    if meta and rng.random() < 0.1:
        meta["referrerSource"] = rng.choice(VALUES["referrerSource"])
    event_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    payload |= {"site_uuid": site, "event_id": event_id, "meta": meta}
    action = "page_hit" if rng.random() < 0.99 else "click"
    return {"timestamp": _stamp(at), "inserted_at": _stamp(stored), "action": action, "version": "1",
            "session_id": session_id, "payload": payload}  # fmt: skip


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds") + "Z"
