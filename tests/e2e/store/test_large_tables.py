"""Tables of more bytes than the store may use of memory, or of many hits."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from flask import Flask

from analytics_store import maintenance
from analytics_store.columns import ENTRY, TEXTS
from analytics_store.duckdb_engine import sorting
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.generated_hits import generate_hits, of_one_site
from tests.support.processes import ROOT, free_port
from tests.support.store import NOW, Clock, hit, ndjson
from tests.support.store_process import environment

pytestmark = pytest.mark.e2e

URL = "/v0/events?name=analytics_events&wait=true"
MEMORY_MB = 64
LEAST_MEMORY_MB = 128
"""Least memory that an operator may set, in MiB."""
IMPORTED = 100_000
"""Rows of the exported file that are imported."""


def open_store(data_dir: Path, memory_mb: int = MEMORY_MB) -> Flask:
    return create_app(Settings(bind="unix:/nowhere", data_dir=data_dir, memory_mb=memory_mb), clock=Clock())


def generate(app: Flask, sessions: int) -> None:
    """Add five times as many hits, in 91 days."""
    days, half = 91, sessions // 2
    start = NOW.replace(tzinfo=None) - timedelta(days=days)
    with app.extensions["store"].engine.database.cursor() as cursor:
        of_one_site(cursor, "site")
        for first in (0, half):
            generate_hits(cursor, start, days, sessions, first, first + half)


def fill(app: Flask, rows: int) -> None:
    """Add hits as wide as earlier versions stored them, a second after each other; half of them are of one site."""
    wide = "array_to_string(list_transform(range(250), lambda x: md5(number || '-' || x)), '')"
    texts = ", ".join(f"{wide if name in {'href', 'pathname'} else chr(39) * 2} AS {name}" for name in TEXTS.values())
    entry = ", ".join(f"'' AS {name}" for name in ENTRY)
    with app.extensions["store"].engine.database.cursor() as cursor:
        for first in range(0, rows, 1_000):
            cursor.execute(
                "INSERT INTO hits BY NAME SELECT if(number % 2 = 0, 'site', 'site' || hash(number) % 7) AS site_uuid,"
                f" {texts}, '2026-11-01'::TIMESTAMP + to_seconds(number) AS ts, 1 AS session_no, '1' AS version,"
                " md5(number::VARCHAR)::UUID AS event_key, '' AS event_name, '' AS source, ts AS inserted_at,"
                " '' AS meta, '' AS rest"
                f" FROM range({first}, {min(rows, first + 1_000)}) numbers(number)"
            )
        cursor.execute(
            "INSERT INTO sessions BY NAME SELECT number AS session_no, uuid() AS session_key,"
            " 'site' || hash(number) % 7 AS site_uuid, md5(number::VARCHAR) AS session_id,"
            " '2026-11-01'::TIMESTAMP + to_seconds(number) AS first_ts, first_ts AS last_ts, 1 AS pageviews,"
            f" {entry} FROM range(1, 40_001) numbers(number)"
        )


def test_wide_hits_of_more_bytes_than_the_memory_are_sorted_exported_and_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "LEAST_HITS", 1)
    filling = open_store(tmp_path, memory_mb=256)
    fill(filling, 2 * MEMORY_MB * 2**20 // 16_000)
    filling.extensions["store"].close()
    app = open_store(tmp_path)
    client = app.test_client()
    assert maintenance.sort(app.extensions["store"]) == maintenance.SECONDS_BETWEEN_STEPS
    response = client.get("/v0/store/export?name=analytics_events", buffered=False)
    rows = sum(chunk.count(b"\n") for chunk in response.iter_encoded())
    assert (rows, str(rows)) == (client.get("/v0/store/info").get_json()["hits"], response.headers["x-store-rows"])
    assert client.post("/v0/store/compact").get_json()["hits"] == rows
    app.extensions["store"].close()


def test_a_compacted_store_holds_all_rows_in_the_order_of_site_and_time(tmp_path: Path) -> None:
    app = open_store(tmp_path)
    fill(app, 4_000)
    database = app.extensions["store"].engine.database
    tables = {"hits": "site_uuid, ts", "sessions": "site_uuid, first_ts"}

    def content(table: str, columns: str) -> list[tuple[Any, ...]]:
        query = f"SELECT {columns}, hash({table}) FROM {table} ORDER BY ALL"
        rows: list[tuple[Any, ...]] = database.query(query, {}).rows
        return rows

    before = [content(*each) for each in tables.items()]
    assert app.test_client().post("/v0/store/compact").status_code == 200
    assert [content(*each) for each in tables.items()] == before
    for table, columns in tables.items():
        stored = database.query(f"SELECT {columns} FROM {table} ORDER BY rowid", {}).rows
        assert stored == sorted(stored)
        assert len({site for site, _ in stored}) >= 7
    database.close()


def test_rows_of_more_bytes_than_the_memory_are_written(tmp_path: Path) -> None:
    app = open_store(tmp_path)
    client, rows = app.test_client(), 0
    wide = hit(payload={"site_uuid": "site"})
    wide["action"] = "x" * 40_000
    body = ndjson([wide] * (9_000_000 // 40_200))
    while rows * 40_000 < 2 * MEMORY_MB * 2**20:
        rows += client.post(URL, data=body).get_json()["successful_rows"]
    facts = client.get("/v0/store/info").get_json()
    assert (facts["rows_kept_whole"], facts["rows_in_quarantine"]) == (rows, 0)
    app.extensions["store"].close()


def test_a_query_of_one_day_does_not_read_all_days(tmp_path: Path) -> None:
    app = open_store(tmp_path, memory_mb=256)
    generate(app, sessions=100_000)
    client = app.test_client()
    hits = client.get("/v0/store/info").get_json()["hits"]
    assert hits > 400_000
    for pipe in ("api_kpis", "api_top_pages", "api_top_sources", "api_top_locations"):
        response = client.get(
            f"/v0/pipes/{pipe}.json?site_uuid=site&date_from=2026-11-10&date_to=2026-11-10"
        ).get_json()
        assert response["data"]
        assert response["statistics"]["rows_read"] < hits / 2
    app.extensions["store"].close()


# VmHWM is the most memory since the start of the program; getrusage() would count that of the test's process before it.
MEASURED = """
import atexit, sys
from pathlib import Path
from analytics_store.__main__ import main
atexit.register(lambda: sys.stderr.write(Path("/proc/self/status").read_text()))
main()
"""


def run_command(data_dir: Path, *arguments: str | Path) -> tuple[str, float]:
    """Run a command of the store with the least memory; return its output and its process's most memory, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        cwd=ROOT,
        env=environment(data_dir, free_port()) | {"STORE_MEMORY_MB": str(LEAST_MEMORY_MB)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (most,) = re.findall(r"VmHWM:\s*(\d+) kB", done.stderr)
    return done.stdout, int(most) / 1024


def test_a_million_hits_are_exported_as_parquet_in_little_memory_and_imported_again(tmp_path: Path) -> None:
    app = open_store(tmp_path / "store", memory_mb=256)
    generate(app, sessions=190_000)
    hits = app.test_client().get("/v0/store/info").get_json()["hits"]
    app.extensions["store"].close()
    assert hits > 1_000_000
    _, idle_mb = run_command(tmp_path / "store", "info")

    output, most_mb = run_command(tmp_path / "store", "export", tmp_path / "hits.parquet")
    assert f"rows: {hits}\n" in output
    # DuckDB may use STORE_MEMORY_MB for the store, and once more for the file.
    assert most_mb < idle_mb + 2 * LEAST_MEMORY_MB

    with duckdb.connect() as connection:
        ((event_ids, first, last),) = connection.execute(
            "SELECT count(DISTINCT payload->>'event_id'), min(timestamp), max(timestamp) FROM read_parquet(?)",
            [str(tmp_path / "hits.parquet")],
        ).fetchall()
        # In groups as small as those of the export, which begin after so many bytes.
        connection.execute(
            f"COPY (FROM '{tmp_path / 'hits.parquet'}' LIMIT {IMPORTED}) TO '{tmp_path / 'some.parquet'}'"
            " (ROW_GROUP_SIZE 10_240)"
        )
    assert (event_ids, first[:10], last[:10]) == (hits, "2026-08-23", "2026-11-22")
    # All of them would take minutes.
    for counts in (f"new: {IMPORTED}\nalready there: 0\n", f"new: 0\nalready there: {IMPORTED}\n"):
        output, _ = run_command(tmp_path / "other", "import", tmp_path / "some.parquet")
        assert f"{counts}quarantined: 0\n" in output
