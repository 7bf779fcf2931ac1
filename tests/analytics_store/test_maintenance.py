import json
import logging
import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store import database as database_module
from analytics_store import hits as hits_module
from analytics_store.chores import chores_of
from analytics_store.database import parameters_of
from analytics_store.settings import Settings
from analytics_store.upkeep import forget
from analytics_store.wiring import create_app
from tests.support.store import GOLDEN, NOW, Clock, ndjson, post_golden

URL = "/v0/events?name=analytics_events"


def hit(at: datetime, session: str, **payload: Any) -> dict[str, Any]:
    return {
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "action": "page_hit",
        "version": "1",
        "session_id": session,
        "payload": {"site_uuid": "site"} | payload,
    }


def sources(client: FlaskClient) -> dict[str, int]:
    url = "/v0/pipes/api_top_sources.json?site_uuid=site&date_from=2026-01-01&date_to=2026-12-31"
    return {row["source"]: row["visits"] for row in client.get(url).get_json()["data"]}


def test_retention_deletes_what_is_older_and_corrects_sessions_that_went_on(tmp_path: Path, clock: Clock) -> None:
    app = create_app(Settings(data_dir=tmp_path, retention_days=30), clock=clock)
    client, limit = app.test_client(), NOW - timedelta(days=30)
    minute = timedelta(minutes=1)
    rows = [
        hit(limit - minute, "old", referrerSource="old.example"),
        hit(limit - minute, "on", referrerSource="forgotten.example"),
        hit(limit + minute, "on", referrerSource="kept.example"),
        hit(limit + 2 * minute, "on", referrerSource="later.example"),
        hit(limit + minute, "new", referrerSource="new.example"),
    ]
    client.post(URL, data=ndjson(rows) + b"misfit\n")
    assert forget(app.extensions["store"]) == 2
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
    assert forget(app.extensions["store"]) == 0
    app.extensions["store"].database.close()


def test_the_retention_thread_deletes_at_once_and_stops_when_told(tmp_path: Path, clock: Clock) -> None:
    app = create_app(Settings(data_dir=tmp_path, retention_days=30), clock=clock)
    client, store = app.test_client(), app.extensions["store"]
    client.post(URL, json=hit(NOW - timedelta(days=31), "old"))
    for chore in chores_of(store):
        chore.start()
        chore.stop()
    assert sources(client) == {}
    store.database.close()


def test_nothing_is_deleted_unless_a_retention_is_set(app: Flask, client: FlaskClient) -> None:
    client.post(URL, json=hit(datetime(1999, 1, 1, tzinfo=UTC), "old"))
    assert forget(app.extensions["store"]) == 0
    assert client.get("/v0/store/info").get_json()["hits"] == 1


def test_an_export_posted_to_another_store_gives_the_same_answers(
    client: FlaskClient, tmp_path: Path, clock: Clock
) -> None:
    post_golden(client)
    other = create_app(Settings(data_dir=tmp_path / "other"), clock=clock)
    for name in ("analytics_events", "automation_run_events", "automation_run_step_events"):
        exported = client.get(f"/v0/store/export?name={name}")
        assert int(exported.headers["x-store-rows"]) == exported.data.count(b"\n") > 0
        answer = other.test_client().post(f"/v0/events?name={name}", data=exported.data)
        assert answer.get_json()["quarantined_rows"] == 0
    for case in map(json.loads, (GOLDEN / "pipes.jsonl").read_text().splitlines()):
        url = f"/v0/pipes/{case['pipe']}.json?{case['params']}"
        assert other.test_client().get(url).get_json().get("data") == client.get(url).get_json().get("data")
    other.extensions["store"].database.close()


def test_an_export_gives_back_the_event_that_came(client: FlaskClient) -> None:
    texts = {
        "event_id": "0FE04A48-not-a-canonical-uuid", "site_uuid": "site", "member_uuid": "m", "member_status": "free",
        "post_uuid": "p", "post_type": "post", "gift_link": "g", "locale": "en-US", "location": "DE",
        "pathname": "/\"\\/", "href": "https://blog.example/", "device": "desktop", "os": "macos", "browser": "chrome",
        "user-agent": "Mozilla", "utm_source": None,
        "utm_medium": "m", "utm_campaign": "c", "utm_term": "t", "utm_content": None,
    }  # fmt: skip
    event = {
        "timestamp": "2026-11-22T00:30:13.714Z",
        "action": "page_hit",
        "version": "1",
        "site_uuid": "site",
        "session_id": "abc",
        "inserted_at": "2026-11-22T00:30:14.000Z",
        "payload": texts
        | {
            "parsedReferrer": {"url": "https://t.co/", "source": None, "medium": None},
            "referrerUrl": "https://t.co/",
            "referrerSource": "Twitter",
            "referrerMedium": None,
            "meta": {"received_timestamp": "2026-11-22T00:30:13.700Z", "more": [1, {"a": None}]},
            "unknown": {"nested": [True, 1.5, "\u00e4"]},
        },
    }
    client.post(URL, json=event)
    assert json.loads(client.get("/v0/store/export?name=analytics_events").data) == event


@pytest.mark.parametrize("name", ["rows.ndjson", "rows.ndjson.gz", "rows.parquet"])
def test_a_file_exported_from_the_shell_can_be_imported_again(
    app: Flask, client: FlaskClient, tmp_path: Path, clock: Clock, name: str
) -> None:
    post_golden(client)
    other = create_app(Settings(data_dir=tmp_path / "other", bind=app.extensions["store"].settings.bind), clock=clock)
    for source in ("analytics_events", "automation_run_events"):
        file = str(tmp_path / f"{source}-{name}")
        done = app.test_cli_runner().invoke(args=["store", "export", "--name", source, file])
        assert (done.exit_code, done.exception) == (0, None), done.output
        done = other.test_cli_runner().invoke(args=["store", "import", "--name", source, file])
        assert (done.exit_code, done.exception) == (0, None), done.output
        exports = [side.test_client().get(f"/v0/store/export?name={source}").data for side in (app, other)]
        assert sorted(exports[0].splitlines()) == sorted(exports[1].splitlines())
    other.extensions["store"].database.close()


def test_the_shell_tells_what_the_store_holds_and_compacts_it(app: Flask, client: FlaskClient) -> None:
    post_golden(client)
    before = client.get("/v0/store/export?name=analytics_events").data
    assert "hits: 32" in app.test_cli_runner().invoke(args=["store", "info"]).output
    assert "bytes_on_disk" in app.test_cli_runner().invoke(args=["store", "compact"]).output
    assert sorted(client.get("/v0/store/export?name=analytics_events").data.splitlines()) == sorted(before.splitlines())
    client.post(URL, json=hit(NOW, "after"))
    assert client.get("/v0/store/info").get_json()["hits"] == 33


def test_a_commit_that_fails_fails_only_the_batch_that_broke_it(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = app.extensions["store"]
    good, bad = [hits_module.Batch([]), hits_module.Batch([])], hits_module.Batch([])
    written: list[int] = []

    def write(rows: list[Any]) -> None:
        written.append(len(rows))
        if "bad" in rows:
            raise hits_module.UnavailableError("no room")

    bad.rows = ["bad"]  # type: ignore[list-item]
    monkeypatch.setattr(store.hits, "_write", write)
    store.hits._commit([good[0], bad, good[1]])
    assert [batch.failure for batch in good] == [None, None]
    assert str(bad.failure) == "no room"
    assert all(batch.done for batch in (*good, bad))


def test_appends_are_refused_when_upkeep_takes_too_long_and_nothing_of_them_is_kept(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits_module, "LONGEST_WAIT", 0.05)
    with app.extensions["store"].hits.paused():
        answer = client.post(URL, json=hit(NOW, "s"))
        assert (answer.status_code, list(answer.get_json())) == (503, ["error"])
    assert client.get("/v0/store/info").get_json()["hits"] == 0
    assert client.post(URL, json=hit(NOW, "s")).status_code == 202


def test_a_question_over_the_memory_cap_is_503_and_the_next_is_answered(app: Flask, client: FlaskClient) -> None:
    post_golden(client)
    database = app.extensions["store"].database
    with database.cursor() as cursor:
        cursor.execute("SET GLOBAL memory_limit = '2MB'")
        cursor.execute("SET GLOBAL max_temp_directory_size = '0MB'")
        cursor.execute("CREATE TEMP TABLE big AS SELECT 1")
    url = "/v0/pipes/api_top_pages.json?site_uuid=mock_site_uuid&date_from=2100-01-01&date_to=2100-01-07"
    refused = client.get(url)
    assert (refused.status_code, list(refused.get_json())) == (503, ["error"])
    with database.cursor() as cursor:
        cursor.execute("SET GLOBAL memory_limit = '256MB'")
    assert client.get(url).status_code == 200


def test_no_statement_reads_or_writes_beside_the_store(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    client.get("/health")
    with app.extensions["store"].database.cursor() as cursor:
        for statement in (
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            "SELECT * FROM read_text('/etc/passwd')",
            "SET enable_external_access = true",
            f"ATTACH '{tmp_path}/other.duckdb'",
        ):
            with pytest.raises(duckdb.Error):
                cursor.execute(statement).fetchall()


def test_a_damaged_file_is_said_and_nothing_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "store.duckdb"
    file.write_bytes(b"not a database" * 1000)
    answer = create_app(Settings(data_dir=tmp_path)).test_client().get("/health")
    assert answer.status_code == 503
    assert file.read_bytes() == b"not a database" * 1000


def test_the_log_holds_no_token_and_no_row(app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("analytics_store")
    logger.addHandler(caplog.handler)
    client.post(f"{URL}&token=secret-token", data=b"secret-row\n")
    client.get("/v0/pipes/api_kpis.json?token=secret-token")
    logger.removeHandler(caplog.handler)
    lines = [logger.handlers[0].format(record) for record in caplog.records]
    assert any(json.loads(line)["event"] == "store.rows_quarantined" for line in lines)
    assert "secret" not in "".join(lines)


def test_compaction_gives_back_the_room_of_what_was_deleted(tmp_path: Path, clock: Clock) -> None:
    app = create_app(Settings(data_dir=tmp_path, retention_days=30), clock=clock)
    client, store = app.test_client(), app.extensions["store"]
    rng = random.Random(1)
    for _ in range(3):
        old = [hit(NOW - timedelta(days=40), f"s{n}", pathname=rng.randbytes(1_000).hex()) for n in range(2_000)]
        client.post(URL, data=ndjson(old))
    client.post(URL, json=hit(NOW, "new"))
    client.post("/v0/store/compact")
    before = client.get("/v0/store/info").get_json()["bytes_on_disk"]
    forget(store)
    after = client.post("/v0/store/compact").get_json()
    assert after["hits"] == 1
    assert after["bytes_on_disk"] < before / 2
    store.database.close()


def test_a_day_of_many_is_answered_without_reading_them_all(app: Flask, client: FlaskClient) -> None:
    generate = (Path(__file__).parents[1] / "bench" / "generate_hits.sql").read_text()
    values = {"site": "site", "start": NOW.replace(tzinfo=None) - timedelta(days=91), "span": 91 * 86_400}
    values |= {"sessions": 100_000, "first": 0, "last": 100_000}
    with app.extensions["store"].database.cursor() as cursor:
        for part in cursor.extract_statements(generate):
            cursor.execute(part, {name: values[name] for name in parameters_of(part.query)})
    held = client.get("/v0/store/info").get_json()["hits"]
    assert held > 400_000
    for pipe in ("api_kpis", "api_top_pages", "api_top_sources", "api_top_locations"):
        answer = client.get(f"/v0/pipes/{pipe}.json?site_uuid=site&date_from=2026-11-10&date_to=2026-11-10").get_json()
        assert answer["data"]
        assert answer["statistics"]["rows_read"] < held / 2


def test_compaction_gives_way_to_a_long_read_and_leaves_the_old_file_whole(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    post_golden(client)
    monkeypatch.setattr(database_module, "LONGEST_WAIT", 0.05)
    with app.extensions["store"].database.cursor():
        answer = client.post("/v0/store/compact")
        assert (answer.status_code, "try again" in answer.get_json()["error"]) == (503, True)
    assert client.get("/v0/store/info").get_json()["hits"] == 32
    assert client.post("/v0/store/compact").get_json()["hits"] == 32
    assert client.post(URL, json=hit(NOW, "after")).status_code == 202


def test_questions_are_answered_while_the_store_compacts_again_and_again(app: Flask, client: FlaskClient) -> None:
    post_golden(client)
    done = threading.Event()
    statuses: list[int] = []

    def compact() -> None:
        statuses.extend(app.test_client().post("/v0/store/compact").status_code for _ in range(5))
        done.set()

    thread = threading.Thread(target=compact)
    thread.start()
    asked = 0
    while not done.is_set() or not asked:
        query = "site_uuid=mock_site_uuid&date_from=2100-01-01&date_to=2100-01-07"
        answer = client.get(f"/v0/pipes/api_top_pages.json?{query}")
        assert len(answer.get_json()["data"]) == 4
        asked += 1
    thread.join()
    assert statuses == [200] * 5
