"""Old hits are deleted, and sessions that went on are corrected."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient

from analytics_store.maintenance import delete_expired
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.processes import wait_until
from tests.support.store import NOW, Clock, hit_at, ndjson

URL = "/v0/events?name=analytics_events&wait=true"


def sources(client: FlaskClient) -> dict[str, int]:
    url = "/v0/pipes/api_top_sources.json?site_uuid=site&date_from=2026-01-01&date_to=2026-12-31"
    return {row["source"]: row["visits"] for row in client.get(url).get_json()["data"]}


def test_retention_deletes_what_is_older_and_corrects_sessions_that_went_on(tmp_path: Path, clock: Clock) -> None:
    app = create_app(Settings(data_dir=tmp_path, retention_days=30), clock=clock)
    client, limit = app.test_client(), NOW - timedelta(days=30)
    minute = timedelta(minutes=1)
    rows = [
        hit_at(limit - minute, "old", referrerSource="old.example"),
        hit_at(limit - minute, "on", referrerSource="forgotten.example"),
        hit_at(limit + minute, "on", referrerSource="kept.example"),
        hit_at(limit + 2 * minute, "on", referrerSource="later.example"),
        hit_at(limit + minute, "new", referrerSource="new.example"),
    ]
    client.post(URL, data=ndjson(rows) + b"misfit\n")
    assert delete_expired(app.extensions["store"]) == 2
    assert sources(client) == {"kept.example": 1, "new.example": 1}
    day = (limit + minute).date()
    (row,) = [
        row
        for row in client.get(f"/v0/pipes/api_kpis.json?site_uuid=site&date_from={day}&date_to=2026-11-22").get_json()[
            "data"
        ]
        if row["visits"]
    ]
    assert (row["visits"], row["pageviews"], row["bounce_rate"]) == (2, 3, 0.5)
    assert delete_expired(app.extensions["store"]) == 0
    app.extensions["store"].close()


def test_retention_deletes_at_the_start_of_the_store(tmp_path: Path, clock: Clock) -> None:
    app = create_app(Settings(data_dir=tmp_path, retention_days=30), clock=clock)
    client, store = app.test_client(), app.extensions["store"]
    client.post(URL, json=hit_at(NOW - timedelta(days=31), "old"))
    background = app.extensions["background"]
    background.start()
    wait_until(lambda: sources(client) == {}, 20)
    background.stop(timeout=30)
    store.close()


def test_nothing_is_deleted_unless_a_retention_is_set(app: Flask, client: FlaskClient) -> None:
    client.post(URL, json=hit_at(datetime(1999, 1, 1, tzinfo=UTC), "old"))
    assert delete_expired(app.extensions["store"]) == 0
    assert client.get("/v0/store/info").get_json()["hits"] == 1
