"""Answers are those computed from the hits after any sequence of operations, whether days are settled or not."""

import gzip
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store import maintenance
from analytics_store.duckdb_engine import pipes, settling, sorting
from analytics_store.errors import UnavailableError
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.store import GOLDEN, NOW, Clock, hit, ndjson

SITES = ("busy", "quiet")
ZONES = ("Etc/UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu")
PIPES = ("api_top_pages", "api_top_sources", "api_top_locations", "api_top_os", "api_kpis")
OPERATIONS = ("append", "import", "settle", "forget", "erase", "compact", "restart")
URL = "/v0/events?name=analytics_events&wait=true"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settle days of few sessions, and use them for short ranges."""
    monkeypatch.setattr(settling, "BUSY_SESSIONS", 2)
    monkeypatch.setattr(settling, "SESSIONS_AT_ONCE", 5)
    monkeypatch.setattr(sorting, "LEAST_HITS", 3)
    monkeypatch.setattr(pipes, "SHORTEST_BY_DAY", timedelta())


def draw_event(rng: random.Random, *, repeats: list[dict[str, Any]]) -> dict[str, Any]:
    if repeats and rng.random() < 0.1:
        return rng.choice(repeats)
    at = NOW - timedelta(days=6 * rng.random() ** 2, milliseconds=rng.randrange(1_000))
    path = rng.choice(("/", "/a/", "/b/"))
    payload = {
        "site_uuid": rng.choices(SITES, (6, 1))[0],
        "pathname": path,
        "post_uuid": rng.choice(("undefined", path)),
        "post_type": rng.choice(("post", "page")),
        "member_status": rng.choices(("undefined", "free", "paid", "comped", "other", None), (6, 2, 1, 1, 1, 1))[0],
        "location": rng.choices(("DE", "GB", None), (8, 1, 1))[0],
        "os": rng.choices(("ios", "macos"), (8, 1))[0],
        "browser": "chrome",
        "referrerSource": rng.choice(("", "Google")),
    }
    session = f"{at:%d}-{rng.randrange(5)}" if rng.random() < 0.9 else f"long-{rng.randrange(3)}"
    event = hit(timestamp=f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z", session_id=session, payload=payload)
    repeats.append(event)
    return event


def draw_query(rng: random.Random) -> dict[str, str]:
    first = (NOW - timedelta(days=rng.randrange(10))).date()
    query = {"site_uuid": rng.choices(SITES, (6, 1))[0], "date_from": f"{first}", "timezone": rng.choice(ZONES)}
    query["date_to"] = f"{first + timedelta(days=rng.choice((0, 1, 3, 8)))}"
    if rng.random() < 0.6:
        query["member_status"] = rng.choice(("undefined,free,paid", "free", "paid", "other", "other,free", ""))
    if rng.random() < 0.3:
        query["post_type"] = rng.choice(("post", "page"))
    for name, values in {
        "location": ("DE", "GB", ""),
        "os": ("ios",),
        "source": ("Google",),
        "pathname": ("/a/",),
    }.items():
        if rng.random() < 0.1:
            query[name] = rng.choice(values)
    return query


def settle(app: Flask) -> None:
    store = app.extensions["store"]
    for chore in (maintenance.settle, maintenance.sort):
        while chore(store) == maintenance.SECONDS_BETWEEN_STEPS:
            pass


def answers(client: FlaskClient, queries: list[dict[str, str]]) -> list[Any]:
    return [
        client.get(f"/v0/pipes/{pipe}{version}.json", query_string=query).get_json()["data"]
        for query in queries
        for pipe in PIPES
        for version in ("", "_v2")
    ]


def settled_rows(app: Flask) -> int:
    database = app.extensions["store"].engine.database
    rows: int = database.query("SELECT count(*) FROM page_days", {}).rows[0][0]
    return rows


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.e2e) for seed in range(2, 8))])
def test_answers_are_those_of_the_hits_after_any_sequence_of_operations(
    tmp_path: Path, clock: Clock, seed: int
) -> None:
    rng = random.Random(seed)
    app = create_app(Settings(data_dir=tmp_path / "one", retention_days=5), clock=clock)
    client = app.test_client()
    store = app.extensions["store"]
    sent: list[dict[str, Any]] = []
    client.post(URL, data=ndjson([draw_event(rng, repeats=sent) for _ in range(40)]))
    had_settled = 0
    for _ in range(12):
        operation = rng.choices(OPERATIONS, (6, 2, 5, 1, 1, 1, 1))[0]
        if operation == "append":
            client.post(URL, data=ndjson([draw_event(rng, repeats=sent) for _ in range(rng.choice((1, 3, 40)))]))
        elif operation == "import":
            body = ndjson([draw_event(rng, repeats=sent) for _ in range(20)])
            client.post("/v0/store/import?name=analytics_events", data=body)
        elif operation == "settle":
            settle(app)
        elif operation == "forget":
            clock.now += rng.choice((0, 40_000))
            maintenance.delete_expired(store)
        elif operation == "erase":
            with store.hits.paused():
                store.engine.erase("quiet")
        elif operation == "compact":
            maintenance.compact(store)
        else:
            store.close()
        assert client.get("/v0/store/check").get_json() == {"sessions": 0, "page_days": 0}, operation
        had_settled += settled_rows(app)
    settle(app)
    assert had_settled + settled_rows(app)

    # A store that got all hits at once and has settled nothing gives the same answers.
    exported = client.get("/v0/store/export?name=analytics_events").data
    other = create_app(Settings(data_dir=tmp_path / "other"), clock=clock)
    other.test_client().post("/v0/store/import?name=analytics_events", data=exported)
    queries = [draw_query(rng) for _ in range(12)]
    assert answers(client, queries) == answers(other.test_client(), queries)
    store.close()
    other.extensions["store"].close()


def test_a_late_hit_leaves_its_day_to_the_hits_until_it_is_settled_again(app: Flask, client: FlaskClient) -> None:
    def post(session: str, at: str) -> None:
        client.post(URL, json=hit(session_id=session, timestamp=f"2026-11-{at}:00.000Z"))

    def visits() -> Any:
        query = "site_uuid=site&date_from=2026-11-17&date_to=2026-11-21"
        return client.get(f"/v0/pipes/api_top_pages.json?{query}").get_json()["data"][0]["visits"]

    for session, at in (("first", "17T10:00"), ("a", "18T10:00"), ("b", "18T11:00"), ("c", "20T11:00")):
        post(session, at)
    settle(app)
    assert (settled_rows(app), visits()) == (1, 4)
    post("d", "18T12:00")
    assert (settled_rows(app), visits()) == (0, 5)
    settle(app)
    assert (settled_rows(app), visits()) == (1, 5)
    # A session that began on the settled day goes on.
    post("a", "21T10:00")
    assert (settled_rows(app), visits()) == (0, 5)


def test_a_late_hit_leaves_a_day_whose_settling_failed_after_its_commit(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnavailableError("the file cannot be read")

    for session, day in (("first", 17), ("a", 18), ("b", 18)):
        client.post(URL, json=hit(timestamp=f"2026-11-{day}T09:00:00.000Z", session_id=session))
    engine = app.extensions["store"].engine
    with monkeypatch.context() as patch:
        patch.setattr(engine._settling, "_learnt", True)
        patch.setattr(settling.Settling, "load", fail)
        with pytest.raises(UnavailableError):
            engine.settle(date(2026, 11, 18))
    assert settled_rows(app) == 1

    client.post(URL, json=hit(timestamp="2026-11-18T08:00:00.000Z", session_id="late"))

    assert settled_rows(app) == 0


def test_the_rows_of_a_finished_day_are_sorted_once(app: Flask, client: FlaskClient) -> None:
    for hour, site in enumerate("bacab"):
        event = hit(timestamp=f"2026-11-18T0{hour}:00:00.000Z", session_id=f"{hour}", payload={"site_uuid": site})
        client.post(URL, json=event)
    client.post(URL, json=hit(timestamp="2026-11-17T10:00:00.000Z", session_id="first", payload={"site_uuid": "z"}))
    database = app.extensions["store"].engine.database

    def sites(table: str, time: str) -> str:
        sql = f"SELECT string_agg(site_uuid, '' ORDER BY rowid) FROM {table} WHERE {time}::DATE = '2026-11-18'"
        rows: str = database.query(sql, {}).rows[0][0]
        return rows

    settle(app)
    assert (sites("hits", "ts"), sites("sessions", "first_ts")) == ("aabbc", "aabbc")
    assert client.get("/v0/store/info").get_json()["hits"] == 6
    # A late hit stays behind, so that one hit does not move a day again.
    client.post(URL, json=hit(timestamp="2026-11-18T10:00:00.000Z", session_id="late", payload={"site_uuid": "a"}))
    settle(app)
    assert sites("hits", "ts") == "aabbca"


def test_days_are_settled_when_their_sessions_have_ended(app: Flask, client: FlaskClient, clock: Clock) -> None:
    for day in (17, 19, 19, 20, 20, 21, 21, 22):
        client.post(URL, json=hit(session_id=f"{day}-{random.random()}", timestamp=f"2026-11-{day}T10:00:00.000Z"))
    settle(app)
    assert settled_rows(app) == 2
    clock.now = datetime(2026, 11, 23, 0, 0, 1, tzinfo=UTC).timestamp()
    settle(app)
    assert settled_rows(app) == 3


def test_a_file_of_an_earlier_version_answers_at_once_and_learns_its_sessions(tmp_path: Path, clock: Clock) -> None:
    file = gzip.decompress((GOLDEN / "store_without_journal.duckdb.gz").read_bytes())
    (tmp_path / "store.duckdb").write_bytes(file)
    app = create_app(Settings(data_dir=tmp_path), clock=clock)
    client = app.test_client()
    queries = [
        {"site_uuid": "mock_site_uuid", "date_from": "2100-01-01", "date_to": "2100-01-07", **filters}
        for filters in ({}, {"member_status": "paid"}, {"location": "US"}, {"location": "GB", "os": "macos"})
    ]
    before = answers(client, queries)
    settle(app)
    unknown = app.extensions["store"].engine.database.query("SELECT count(*) FROM sessions WHERE statuses IS NULL", {})
    assert unknown.rows == [(0,)]
    assert answers(client, queries) == before
    assert any(before)
    assert client.get("/v0/store/check").get_json() == {"sessions": 0, "page_days": 0}
    app.extensions["store"].close()


@pytest.mark.parametrize(
    ("damage", "differences"),
    [
        ("UPDATE sessions SET pageviews = 9 WHERE session_id = 'a'", {"sessions": 1, "page_days": 0}),
        ("UPDATE sessions SET statuses = 2", {"sessions": 4, "page_days": 0}),
        ("UPDATE sessions SET source = 'x' WHERE session_id = 'a'", {"sessions": 1, "page_days": 0}),
        ("UPDATE page_days SET visits = 3", {"sessions": 0, "page_days": 2}),
        ("DELETE FROM page_days", {"sessions": 0, "page_days": 1}),
        ("DELETE FROM sessions WHERE session_id = 'c'", {"sessions": 1, "page_days": 0}),
    ],
)
def test_the_check_finds_what_differs_from_the_hits(
    app: Flask, client: FlaskClient, damage: str, differences: dict[str, int]
) -> None:
    for session, at in (("first", "17T10:00"), ("a", "18T10:00"), ("b", "18T11:00"), ("c", "20T11:00")):
        client.post(URL, json=hit(session_id=session, timestamp=f"2026-11-{at}:00.000Z"))
    settle(app)
    runner = app.test_cli_runner()
    assert runner.invoke(args=["store", "check"]).exit_code == 0
    with app.extensions["store"].engine.database.cursor() as cursor:
        cursor.execute(damage)
    assert client.get("/v0/store/check").get_json() == differences
    assert runner.invoke(args=["store", "check"]).exit_code == 1
