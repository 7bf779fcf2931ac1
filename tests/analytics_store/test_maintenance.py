import json
import random
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.duckdb_engine import database as database_module
from analytics_store.maintenance import delete_expired
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.processes import ROOT, free_port
from tests.support.store import NOW, Clock, hit_at, ndjson, post_golden, read_log
from tests.support.store_process import environment

URL = "/v0/events?name=analytics_events&wait=true"


def test_the_commands_show_the_content_of_the_store_and_compact_it(app: Flask, client: FlaskClient) -> None:
    post_golden(client)
    before = client.get("/v0/store/export?name=analytics_events").data
    assert "hits: 32" in app.test_cli_runner().invoke(args=["store", "info"]).output
    assert "bytes_on_disk" in app.test_cli_runner().invoke(args=["store", "compact"]).output
    assert sorted(client.get("/v0/store/export?name=analytics_events").data.splitlines()) == sorted(before.splitlines())
    client.post(URL, json=hit_at(NOW, "after"))
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
        old = [hit_at(NOW - timedelta(days=40), f"s{n}", pathname=rng.randbytes(1_000).hex()) for n in range(2_000)]
        client.post(URL, data=ndjson(old))
    client.post(URL, json=hit_at(NOW, "new"))
    client.post("/v0/store/compact")
    before = client.get("/v0/store/info").get_json()["bytes_on_disk"]
    delete_expired(store)
    after = client.post("/v0/store/compact").get_json()
    assert after["hits"] == 1
    assert after["bytes_on_disk"] < before / 2
    store.close()


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
    assert client.post(URL, json=hit_at(NOW, "after")).status_code == 200


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
