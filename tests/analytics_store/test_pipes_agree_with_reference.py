"""The store's SQL and a naive computation return the same rows for random hits and queries."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from analytics_store.endpoints import ENDPOINTS
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.reference import HIT_FILTERS, SESSION_FILTERS, Reference
from tests.support.store import NOW, Clock, ndjson

SITES = ("site-a", "site-b")
PIPES = [name for name in ENDPOINTS if "monitoring" not in name and "automation" not in name]
ZONES = (
    "Etc/UTC",
    "Europe/Berlin",
    "America/Los_Angeles",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Pacific/Apia",
)
CHOICES: dict[str, tuple[str, ...]] = {
    "location": ("", "DE", "GB"),
    "pathname": ("/", "/about/"),
    "post_uuid": ("undefined", "p1", "p2"),
    "post_type": ("post", "page", ""),
    "os": ("", "macos", "ios"),
    "browser": ("", "chrome"),
    "gift_link": ("", "", "", "g1", "g2"),
    "member_status": ("undefined", "free", "paid", "comped", "gift", ""),
    "source": ("", "bing.com", "Twitter"),
    "device": ("desktop", "bot", "unknown"),
    **{name: ("", "x", "y") for name in SESSION_FILTERS if name.startswith("utm_")},
}


def draw_hits(rng: random.Random, around: datetime, count: int) -> list[dict[str, Any]]:
    """Draw hits of few sessions: most are short, some span days, and many hits share a second."""
    hits = []
    for _ in range(count):
        at = around + timedelta(seconds=rng.choice([rng.randrange(-200_000, 200_000), rng.randrange(-4_000, 4_000)]))
        at += timedelta(milliseconds=rng.choice([0, 0, 1, 500, 999]))
        hits.append(
            {"site_uuid": rng.choice(SITES), "session_id": f"s{rng.randrange(max(2, count // 6))}", "at": at}
            | {name: rng.choice(values) for name, values in CHOICES.items()}
        )
    return hits


def as_event(hit: dict[str, Any]) -> dict[str, Any]:
    payload = {name: value or None for name, value in hit.items() if name in CHOICES and name != "source"}
    payload["device"] = None if hit["device"] == "unknown" else hit["device"]
    payload |= {"site_uuid": hit["site_uuid"], "referrerSource": hit["source"]}
    payload["href"] = f"https://{hit['site_uuid']}.example{hit['pathname']}"
    stamp = hit["at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{hit['at'].microsecond // 1000:03d}Z"
    return {
        "timestamp": stamp, "action": "page_hit", "version": "1", "session_id": hit["session_id"], "payload": payload,
    }  # fmt: skip


def draw_query(rng: random.Random, around: datetime) -> dict[str, str]:
    params = {"site_uuid": rng.choice(SITES)}
    if rng.random() < 0.9:
        first = (around + timedelta(days=rng.randrange(-3, 3))).date()
        params["date_from"] = first.isoformat()
        params["date_to"] = (first + timedelta(days=rng.choice([-1, 0, 0, 0, 1, 2, 5]))).isoformat()
        if around == NOW and rng.random() < 0.4:
            del params[rng.choice(["date_from", "date_to"])]
    if rng.random() < 0.8:
        params["timezone"] = rng.choice(ZONES)
    for name in (*HIT_FILTERS, *SESSION_FILTERS):
        if rng.random() < 0.07:
            params[name] = rng.choice(CHOICES[name])
    if rng.random() < 0.15:
        params["member_status"] = ",".join(rng.sample(CHOICES["member_status"], rng.randrange(1, 4)))
    if rng.random() < 0.1:
        params["gift_link"] = rng.choice(["0", "1", "false", "true"])
    if rng.random() < 0.2:
        params["post_type"] = rng.choice(["post", "page"])
    return params


def rounded(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(row[name] for name in sorted(row)) for row in rows)


# The current time and the day that Apia skipped; beside real processes also an ordinary day, and the clock changes of
# 2026 in Berlin, Los Angeles, Lord Howe and Cairo.
MOMENTS = [NOW, datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2011, 12, 30, 10, tzinfo=UTC)]
MORE_MOMENTS = [
    datetime(2026, 6, 10, 12, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 11, 1, 9, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 29, 21, tzinfo=UTC),
    datetime(2026, 4, 23, 22, tzinfo=UTC),
]


@pytest.mark.parametrize(
    "moment",
    [*MOMENTS, *(pytest.param(moment, marks=pytest.mark.e2e) for moment in MORE_MOMENTS)],
    ids="{:%Y-%m-%d}".format,
)
def test_every_pipe_returns_the_rows_of_a_naive_computation(tmp_path: Path, moment: datetime) -> None:
    rng = random.Random(moment.isoformat())
    hits = draw_hits(rng, moment, 60)
    app = create_app(Settings(data_dir=tmp_path), clock=Clock())
    client = app.test_client()
    send(client, hits)
    references = {"": Reference(hits, NOW, whole=False), "_v2": Reference(hits, NOW, whole=True)}
    for _ in range(10):
        query = draw_query(rng, moment)
        for pipe in PIPES:
            for version, reference in references.items():
                agree(client, reference, pipe, version, query, rng)
    app.extensions["store"].close()


@pytest.mark.parametrize("filters", [{}, {"member_status": "free"}, {"location": "DE"}, {"pathname": "/"}], ids=str)
def test_sessions_from_before_a_range_without_dates_count_as_well(tmp_path: Path, filters: dict[str, str]) -> None:
    rng = random.Random(1)
    hits = draw_hits(rng, datetime(2026, 11, 15, tzinfo=UTC), 60)
    app = create_app(Settings(data_dir=tmp_path), clock=Clock())
    send(app.test_client(), hits)
    for version, is_whole in (("", False), ("_v2", True)):
        for pipe in PIPES:
            query = {"site_uuid": SITES[0], **filters}
            agree(app.test_client(), Reference(hits, NOW, whole=is_whole), pipe, version, query, rng)
    app.extensions["store"].close()


def send(client: FlaskClient, hits: list[dict[str, Any]]) -> None:
    """Send hits in the order of drawing and in several commits, so that sessions are updated again and again."""
    for start in range(0, len(hits), 20):
        body = ndjson([as_event(hit) for hit in hits[start : start + 20]])
        assert client.post("/v0/events?name=analytics_events&wait=true", data=body).get_json()["successful_rows"] > 0


def agree(
    client: FlaskClient, reference: Reference, pipe: str, version: str, query: dict[str, str], rng: random.Random
) -> None:
    params = dict(query)
    if pipe == "api_post_visitor_counts":
        params["post_uuids"] = "p1,p2,p3,undefined"
    if pipe == "api_gift_link_visits" and "gift_link" in params:
        params["gift_link"] = rng.choice(["g1", "g2", "g3"])
    response = client.get(f"/v0/pipes/{pipe}{version}.json", query_string=params)
    assert response.status_code == 200, (pipe, params, response.get_json())
    expected = reference.rows(pipe, params)
    rows = response.get_json()["data"]
    assert rounded(rows) == rounded(expected), (pipe, version, params)
    if pipe == "api_kpis":
        assert [row["date"] for row in rows] == [row["date"] for row in expected]
