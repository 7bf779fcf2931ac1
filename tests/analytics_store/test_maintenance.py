import json
import os
import random
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.duckdb_engine import database as database_module
from analytics_store.duckdb_engine import engine as engine_module
from analytics_store.duckdb_engine.statements import list_parameters
from analytics_store.maintenance import delete_expired
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.processes import wait_until
from tests.support.store import GOLDEN, NOW, Clock, ndjson, post_golden, read_log
from tests.support.store_process import ROOT, environment, free_port

URL = "/v0/events?name=analytics_events&wait=true"


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
    client.post(URL, json=hit(NOW - timedelta(days=31), "old"))
    background = app.extensions["background"]
    background.start()
    wait_until(lambda: sources(client) == {}, 20)
    background.stop(timeout=30)
    store.close()


def test_nothing_is_deleted_unless_a_retention_is_set(app: Flask, client: FlaskClient) -> None:
    client.post(URL, json=hit(datetime(1999, 1, 1, tzinfo=UTC), "old"))
    assert delete_expired(app.extensions["store"]) == 0
    assert client.get("/v0/store/info").get_json()["hits"] == 1


def test_an_export_posted_to_another_store_gives_the_same_rows(
    client: FlaskClient, tmp_path: Path, clock: Clock
) -> None:
    post_golden(client)
    other = create_app(Settings(data_dir=tmp_path / "other"), clock=clock)
    for name in ("analytics_events", "automation_run_events", "automation_run_step_events"):
        exported = client.get(f"/v0/store/export?name={name}")
        assert int(exported.headers["x-store-rows"]) == exported.data.count(b"\n") > 0
        response = other.test_client().post(f"/v0/events?name={name}&wait=true", data=exported.data)
        assert response.get_json()["quarantined_rows"] == 0
    for case in map(json.loads, (GOLDEN / "pipes.jsonl").read_text().splitlines()):
        url = f"/v0/pipes/{case['pipe']}.json?{case['params']}"
        assert other.test_client().get(url).get_json().get("data") == client.get(url).get_json().get("data")
    other.extensions["store"].close()


def test_an_export_returns_the_event_that_was_sent(client: FlaskClient) -> None:
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
def test_a_file_that_was_exported_can_be_imported(
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
    other.extensions["store"].close()


@pytest.mark.parametrize("name", ["rows.ndjson", "rows.ndjson.gz", "rows.parquet"])
def test_an_export_that_breaks_off_leaves_the_older_file(
    app: Flask, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    post_golden(client)
    file = tmp_path / name
    file.write_bytes(b"older")
    (tmp_path / f"link-{name}").symlink_to(file)
    for path in (file, tmp_path / f"link-{name}"):
        with monkeypatch.context() as patched:
            patched.setattr(engine_module, "count", lambda *_: 1_000_000)
            done = app.test_cli_runner().invoke(args=["store", "export", str(path)])
        assert "broke off" in done.output
        assert file.read_bytes() == b"older"
    assert app.test_cli_runner().invoke(args=["store", "export", str(path)]).exit_code == 0
    assert path.is_symlink()
    assert file.read_bytes() not in (b"", b"older")


def test_an_export_may_be_written_to_a_pipe(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    post_golden(client)
    pipe = tmp_path / "rows"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert app.test_cli_runner().invoke(args=["store", "export", str(pipe)]).exit_code == 0
    reader.join(30)
    assert received[0].count(b"\n") == 32
    assert pipe.is_fifo()


def test_the_commands_show_the_content_of_the_store_and_compact_it(app: Flask, client: FlaskClient) -> None:
    post_golden(client)
    before = client.get("/v0/store/export?name=analytics_events").data
    assert "hits: 32" in app.test_cli_runner().invoke(args=["store", "info"]).output
    assert "bytes_on_disk" in app.test_cli_runner().invoke(args=["store", "compact"]).output
    assert sorted(client.get("/v0/store/export?name=analytics_events").data.splitlines()) == sorted(before.splitlines())
    client.post(URL, json=hit(NOW, "after"))
    assert client.get("/v0/store/info").get_json()["hits"] == 33


def test_a_query_over_the_memory_limit_is_503_and_the_next_succeeds(app: Flask, client: FlaskClient) -> None:
    post_golden(client)
    database = app.extensions["store"].engine.database
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


def test_no_statement_reads_or_writes_outside_the_store(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    client.get("/health")
    with app.extensions["store"].engine.database.cursor() as cursor:
        for statement in (
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            "SELECT * FROM read_text('/etc/passwd')",
            "SET enable_external_access = true",
            f"ATTACH '{tmp_path}/other.duckdb'",
        ):
            with pytest.raises(duckdb.Error):
                cursor.execute(statement).fetchall()


def test_a_damaged_file_is_reported_and_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "store.duckdb"
    file.write_bytes(b"not a database" * 1000)
    response = create_app(Settings(data_dir=tmp_path)).test_client().get("/health")
    assert response.status_code == 503
    assert "not a DuckDB database" in response.get_json()["error"]
    assert file.read_bytes() == b"not a database" * 1000


def test_a_damaged_file_stops_the_start_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "store.duckdb").write_bytes(b"not a database" * 1000)
    command = [sys.executable, "-m", "gunicorn", "-c", "analytics_store/gunicorn.conf.py"]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(tmp_path, free_port()),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode not in (0, None)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    (reason,) = [record["message"] for record in records if record["event"] == "StoreCannotStart"]
    assert "not a DuckDB database" in reason


def test_the_log_holds_no_token_and_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(Settings(data_dir=tmp_path))
    client = app.test_client()
    client.post(f"{URL}&token=secret-token", data=b"secret-row\n")
    client.get("/v0/pipes/api_kpis.json?token=secret-token")
    (record,) = read_log(capsys)
    assert (record["event"], record["level"], record["rows"]) == ("RowsQuarantined", "warning", 1)
    assert "secret" not in str(record)
    app.extensions["store"].close()


def test_a_defect_is_logged_with_its_stack_and_without_its_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(Settings(data_dir=tmp_path))

    def broken() -> str:
        raise KeyError("secret-row")

    app.add_url_rule("/broken", "broken", broken)
    response = app.test_client().get("/broken?token=secret-token")
    assert (response.status_code, response.get_json()) == (500, {"error": "Internal Server Error"})
    (record,) = read_log(capsys)
    assert (record["event"], record["level"], record["error"]) == ("UnhandledError", "error", "KeyError")
    assert record["endpoint"] == "broken"
    assert record["stack"][-1].endswith(" broken")
    assert "secret" not in str(record)


def test_an_error_of_the_store_is_logged_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    app = create_app(Settings(data_dir=tmp_path / "file" / "store"))
    assert app.test_client().get("/health").status_code == 503
    (record,) = read_log(capsys)
    assert (record["event"], record["endpoint"]) == ("RequestFailed", "store.health")
    assert "file/store cannot be used (Not a directory)" in record["message"]


def test_compaction_frees_the_space_of_deleted_rows(tmp_path: Path, clock: Clock) -> None:
    app = create_app(Settings(data_dir=tmp_path, retention_days=30), clock=clock)
    client, store = app.test_client(), app.extensions["store"]
    rng = random.Random(1)
    for _ in range(3):
        old = [hit(NOW - timedelta(days=40), f"s{n}", pathname=rng.randbytes(1_000).hex()) for n in range(2_000)]
        client.post(URL, data=ndjson(old))
    client.post(URL, json=hit(NOW, "new"))
    client.post("/v0/store/compact")
    before = client.get("/v0/store/info").get_json()["bytes_on_disk"]
    delete_expired(store)
    after = client.post("/v0/store/compact").get_json()
    assert after["hits"] == 1
    assert after["bytes_on_disk"] < before / 2
    store.close()


def test_a_query_of_one_day_does_not_read_all_days(app: Flask, client: FlaskClient) -> None:
    generate = (Path(__file__).parents[1] / "bench" / "generate_hits.sql").read_text()
    values = {"start": NOW.replace(tzinfo=None) - timedelta(days=91), "span": 91 * 86_400}
    values |= {"sessions": 100_000, "first": 0, "last": 100_000}
    with app.extensions["store"].engine.database.cursor() as cursor:
        cursor.execute("CREATE TEMP MACRO site_of(i) AS 'site'; CREATE TEMP MACRO lies_by_site(ts) AS false")
        for part in cursor.extract_statements(generate):
            cursor.execute(part, {name: values[name] for name in list_parameters(part.query)})
    hits = client.get("/v0/store/info").get_json()["hits"]
    assert hits > 400_000
    for pipe in ("api_kpis", "api_top_pages", "api_top_sources", "api_top_locations"):
        response = client.get(
            f"/v0/pipes/{pipe}.json?site_uuid=site&date_from=2026-11-10&date_to=2026-11-10"
        ).get_json()
        assert response["data"]
        assert response["statistics"]["rows_read"] < hits / 2


def test_compaction_ends_at_a_long_read_and_leaves_the_old_file_unchanged(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    post_golden(client)
    monkeypatch.setattr(database_module, "LONGEST_WAIT", 0.05)
    with app.extensions["store"].engine.database.cursor():
        response = client.post("/v0/store/compact")
        assert (response.status_code, "try again" in response.get_json()["error"]) == (503, True)
    assert client.get("/v0/store/info").get_json()["hits"] == 32
    assert client.post("/v0/store/compact").get_json()["hits"] == 32
    assert client.post(URL, json=hit(NOW, "after")).status_code == 200


def test_queries_succeed_while_the_store_compacts(app: Flask, client: FlaskClient) -> None:
    post_golden(client)
    done = threading.Event()
    statuses: list[int] = []

    def compact() -> None:
        statuses.extend(app.test_client().post("/v0/store/compact").status_code for _ in range(5))
        done.set()

    thread = threading.Thread(target=compact)
    thread.start()
    queries = 0
    while not done.is_set() or not queries:
        query = "site_uuid=mock_site_uuid&date_from=2100-01-01&date_to=2100-01-07"
        response = client.get(f"/v0/pipes/api_top_pages.json?{query}")
        assert len(response.get_json()["data"]) == 4
        queries += 1
    thread.join()
    assert statuses == [200] * 5
