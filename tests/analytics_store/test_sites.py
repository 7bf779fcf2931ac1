"""The pipe that lists the sites of a store."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.store import NOW, hit, ndjson

if TYPE_CHECKING:
    from flask.testing import FlaskClient


def visit(site: str, session: str, host: str = "blog.example", **ago: float) -> dict[str, Any]:
    at = NOW - timedelta(**ago)
    stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    return hit(timestamp=stamp, session_id=session, payload={"site_uuid": site, "href": f"https://{host}/a/?b#c"})


def sites(client: FlaskClient, **parameters: str) -> list[dict[str, Any]]:
    response = client.get("/v0/pipes/api_sites.json", query_string=parameters)
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.get_json()["data"]
    return rows


def post(client: FlaskClient, *events: dict[str, Any]) -> None:
    assert client.post("/v0/events?name=analytics_events&wait=true", data=ndjson(list(events))).status_code == 200


def test_a_store_without_hits_lists_no_sites(client: FlaskClient) -> None:
    assert sites(client) == []


def test_visits_are_counted_by_week_and_day(client: FlaskClient) -> None:
    # It is 12:30 on a Sunday.
    post(
        client,
        *(visit("a", f"now{n}", minutes=n) for n in (1, 4, 6)),
        visit("a", "today", hours=12),
        visit("a", "yesterday", hours=13),
        visit("a", "this week", days=6.9),
        *(visit("a", f"last week {n}", days=7.1 + n) for n in range(5)),
        visit("a", "too early", days=14.1),
    )

    (row,) = sites(client)

    assert row == {
        "site_uuid": "a",
        "host": "blog.example",
        "active_visitors": 2,
        "visits_today": 4,
        "visits_week": 6,
        "visits_week_before": 5,
        "daily_visits": [0, 0, 1, 1, 1, 1, 2, 0, 0, 0, 0, 0, 1, 4],
        "last_hit": "2026-11-22T12:29:00.000Z",
    }


def test_days_are_those_of_the_zone(client: FlaskClient) -> None:
    post(client, visit("a", "s", hours=13))  # 23:30 on Saturday in UTC

    assert sites(client)[0]["visits_today"] == 0
    assert sites(client, timezone="Europe/Berlin")[0]["visits_today"] == 1
    assert sites(client, timezone="Europe/Berlin")[0]["daily_visits"][-2:] == [0, 1]


def test_the_most_visited_site_is_first_and_a_silent_one_last(client: FlaskClient) -> None:
    post(
        client,
        visit("silent", "s", "silent.example", days=200),
        visit("small", "s", "small.example", minutes=1),
        *(visit("large", f"s{n}", "large.example", days=1, minutes=n) for n in range(3)),
    )

    assert [(row["host"], row["visits_week"]) for row in sites(client)] == [
        ("large.example", 3),
        ("small.example", 1),
        ("silent.example", 0),
    ]
    assert sites(client)[-1]["daily_visits"] == [0] * 14


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (["blog.example", "blog.example", "blog-example.translate.goog"], "blog.example"),
        (["Blog.Example:2368"], "blog.example:2368"),
        (["old.example", "old.example", "old.example", "new.example"], "new.example"),
    ],
)
def test_a_site_is_named_by_the_host_of_its_recent_hits(client: FlaskClient, hosts: list[str], name: str) -> None:
    days = {"old.example": 5.0}
    post(
        client, *(visit("a", f"s{n}", host, days=days.get(host, 0), hours=n) for n, host in enumerate(reversed(hosts)))
    )

    assert sites(client)[0]["host"] == name


def test_a_site_without_urls_has_no_host(client: FlaskClient) -> None:
    post(client, hit(payload={"href": "about:blank"}))

    assert sites(client)[0]["host"] == ""


def test_one_site_and_parts_of_the_list_can_be_read(client: FlaskClient) -> None:
    post(client, *(visit(f"site-{n}", f"s{n}", days=n) for n in range(5)))
    everything = sites(client)

    assert sites(client, site_uuid="site-3") == [row for row in everything if row["site_uuid"] == "site-3"]
    assert sites(client, site_uuid="unknown") == []
    assert sites(client, skip="1", limit="2") == everything[1:3]
