"""The rows of periods that have ended lie by site, whatever arrives before, meanwhile and afterwards."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store import maintenance
from analytics_store.duckdb_engine import pieces, sorting
from analytics_store.duckdb_engine.pieces import Piece
from tests.support.store import NOW, Clock, hit, ndjson

URL = "/v0/events?name=analytics_events&wait=true"
TODAY = datetime(2026, 11, 22)  # noqa: DTZ001 - times of the store are UTC without a zone


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sort periods of few hits."""
    monkeypatch.setattr(sorting, "LEAST_HITS", 3)


def event(site: str, days_ago: int, hour: int = 0) -> dict[str, Any]:
    at = TODAY - timedelta(days=days_ago) + timedelta(hours=hour)
    return hit(timestamp=f"{at:%Y-%m-%dT%H:%M:%S}.000Z", session_id=f"{site}{at}", payload={"site_uuid": site})


def post(client: FlaskClient, *events: dict[str, Any]) -> None:
    assert client.post(URL, data=ndjson(list(events))).status_code == 200


def sort(app: Flask) -> int:
    """Sort until nothing is left; return how many periods were sorted."""
    periods = 0
    while maintenance.sort(app.extensions["store"]) == maintenance.SECONDS_BETWEEN_STEPS:
        periods += 1
    return periods


def rows(app: Flask, table: str = "hits") -> str:
    """Return the sites of the rows as they lie."""
    database = app.extensions["store"].engine.database
    text: str = database.query(f"SELECT string_agg(site_uuid, '' ORDER BY rowid) FROM {table}", {}).rows[0][0]
    return text


def test_days_that_have_ended_lie_by_site(app: Flask, client: FlaskClient) -> None:
    post(client, *(event(site, 1, hour) for hour, site in enumerate("bacab")))
    post(client, *(event(site, 0, hour) for hour, site in enumerate("baba")))
    sort(app)
    assert (rows(app), rows(app, "sessions")) == ("babaaabbc", "babaaabbc")


def test_a_day_is_sorted_an_hour_after_its_end(app: Flask, client: FlaskClient, clock: Clock) -> None:
    post(client, *(event(site, 1, hour) for hour, site in enumerate("bab")))
    clock.now = datetime(2026, 11, 22, 0, 59, 59, tzinfo=UTC).timestamp()
    sort(app)
    assert rows(app) == "bab"
    clock.now += 1
    sort(app)
    assert rows(app) == "abb"


def test_days_are_sorted_again_in_longer_periods(app: Flask, client: FlaskClient, clock: Clock) -> None:
    # A period of 30 days, a day at a time.
    first = datetime(2026, 10, 4, tzinfo=UTC)
    for day in range(30):
        clock.now = (first + timedelta(days=day, hours=13)).timestamp()
        ago = (NOW - first).days - day
        post(client, *(event(site, ago, hour) for hour, site in enumerate("bab")))
        sort(app)
    clock.now += 86_400
    sort(app)
    assert (rows(app), rows(app, "sessions")) == (30 * "a" + 60 * "b", 30 * "a" + 60 * "b")


def test_a_period_is_sorted_again_when_as_many_hits_arrived_late(app: Flask, client: FlaskClient) -> None:
    post(client, *(event(site, 3, hour) for hour, site in enumerate("bacab")))
    sort(app)
    # LEAST_HITS and as many as the period had.
    late = [event(site, 3, 10 + n) for n, site in enumerate("abcabcabc")]
    post(client, *late[:8])
    assert sort(app) == 0
    assert rows(app) == "aabbc" + "abcabcab"
    post(client, late[8])
    assert sort(app) == 1
    assert rows(app) == "aaaaabbbbbcccc"


def test_what_is_imported_into_an_empty_store_is_sorted_the_same_day(app: Flask, client: FlaskClient) -> None:
    assert sort(app) == 0
    body = ndjson([event(site, ago, hour) for ago in (48, 47) for hour, site in enumerate("bab")])
    client.post("/v0/store/import?name=analytics_events", data=body)
    sort(app)
    assert rows(app) == "aabbbb"


def test_large_periods_are_not_sorted_as_a_whole(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "MOST_HITS", 5)
    for ago in (9, 8, 7):
        post(client, *(event(site, ago, hour) for hour, site in enumerate("bab")))
    sort(app)
    assert rows(app) == "abb" * 3


def test_the_rows_of_one_site_stay_where_they_are(app: Flask, client: FlaskClient) -> None:
    post(client, *(event("a", 1, hour) for hour in (5, 3, 4)))
    sort(app)
    at = app.extensions["store"].engine.database.query("SELECT rowid FROM hits", {}).rows
    assert sorted(at) == [(0,), (1,), (2,)]


def test_hits_are_appended_while_hits_move(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def split(_cursor: object, table: pieces.Table, _bytes: int, whole: Piece) -> Iterator[Piece]:
        if table.path == "hits":
            # A new one, and a late one of a session that moves.
            post(client, event("c", 0), event("a", 1, 1) | {"timestamp": "2026-11-21T23:00:00.000Z"})
        yield whole

    post(client, *(event(site, 1, hour) for hour, site in enumerate("bab")))
    monkeypatch.setattr(sorting, "split", split)
    sort(app)
    assert rows(app) == "acabb"
    # The late one counts for sorting again.
    counted = app.extensions["store"].engine.database.query("SELECT hits, late_hits FROM sorted_periods", {}).rows
    assert counted == [(3, 1)]
    assert client.get("/v0/store/check").get_json() == {"sessions": 0, "page_days": 0}


@pytest.mark.parametrize("table", ["hits", "sessions"])
def test_a_stop_leaves_the_rows_where_they_are(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    engine = app.extensions["store"].engine
    split = pieces.split

    def stop(cursor: Any, of: pieces.Table, most_bytes: int, whole: Piece) -> Iterator[Piece]:
        if of.path == table:
            engine.stop_sorting()
        return split(cursor, of, most_bytes, whole)

    post(client, *(event(site, 1, hour) for hour, site in enumerate("bab")))
    with monkeypatch.context() as patch:
        patch.setattr(sorting, "split", stop)
        assert sort(app) == 0
    assert rows(app, table) == "bab"
    # The next start sorts them.
    app.extensions["store"].close()
    app.extensions["store"].open()
    sort(app)
    assert rows(app, table) == "abb"
