"""Parquet files are written in little memory, and read as other databases write them."""

import json
import random
from pathlib import Path

import duckdb
import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.duckdb_engine import parquet
from tests.support.store import NOW, hit

TIME = "TIMESTAMP '2026-11-22 10:00:00.123'"
SECONDS, MILLISECONDS = "2026-11-22T10:00:00.000Z", "2026-11-22T10:00:00.123Z"


@pytest.mark.parametrize(
    ("timestamp", "stored", "as_text"),
    [
        (f"epoch({TIME})::UINTEGER", SECONDS, "encode"),
        (f"epoch({TIME})::UINTEGER", SECONDS, ""),
        (f"epoch({TIME})::INTEGER", SECONDS, ""),
        (f"epoch({TIME})::BIGINT", SECONDS, ""),
        (f"epoch({TIME})::UBIGINT", SECONDS, ""),
        (f"epoch({TIME})::DECIMAL(18, 3)", MILLISECONDS, ""),
        (f"epoch_ms({TIME})", MILLISECONDS, ""),
        (f"epoch_us({TIME})", MILLISECONDS, ""),
        (f"epoch_ns({TIME})", MILLISECONDS, ""),
        (f"{TIME}::TIMESTAMP_MS", MILLISECONDS, ""),
        (f"{TIME}::TIMESTAMP_NS", MILLISECONDS, ""),
        (f"{TIME}::TIMESTAMPTZ", MILLISECONDS, ""),
        (f"{TIME}::VARCHAR", MILLISECONDS, ""),
        (f"{TIME}::VARCHAR::BLOB", MILLISECONDS, ""),
    ],
)
def test_parquet_is_imported_as_clickhouse_writes_it(
    app: Flask, client: FlaskClient, tmp_path: Path, timestamp: str, stored: str, as_text: str
) -> None:
    payloads = [
        json.dumps({"site_uuid": "site", "event_id": f"e{n}", "pathname": "/\u00e4"}, ensure_ascii=False)
        for n in range(3)
    ]
    file = tmp_path / "rows.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT {timestamp} AS timestamp, {TIME} AS inserted_at, {as_text}('s') AS session_id,"
            f" {as_text}('page_hit') AS action, {as_text}('1') AS version, {as_text}(payload) AS payload"
            f" FROM (SELECT unnest($payloads) AS payload)) TO '{file}'",
            {"payloads": payloads},
        )
    for expected in ("new: 3\nalready there: 0\nquarantined: 0\n", "new: 0\nalready there: 3\nquarantined: 0\n"):
        done = app.test_cli_runner().invoke(args=["store", "import", str(file)])
        assert (done.exit_code, done.output) == (0, expected)
    rows = [json.loads(line) for line in client.get("/v0/store/export?name=analytics_events").data.splitlines()]
    assert [(row["timestamp"], row["inserted_at"]) for row in rows] == [(stored, MILLISECONDS)] * 3
    assert {row["payload"]["pathname"] for row in rows} == {"/\u00e4"}


def test_a_parquet_row_that_does_not_fit_is_quarantined_and_the_others_are_stored(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    file = tmp_path / "rows.parquet"
    times = (0, 9_223_372_036_854_775_807, -9_223_372_036_854_775_808, None, int(NOW.timestamp()), 1)
    session_ids = ["s", "s", "s", "s", "s", "\\xFF\\x0A"]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE rows (timestamp BIGINT, session_id BLOB, action VARCHAR, payload VARCHAR)")
        rows = [
            (at, session_id, "page_hit", json.dumps(hit()["payload"]))
            for at, session_id in zip(times, session_ids, strict=True)
        ]
        connection.executemany("INSERT INTO rows VALUES (?, ?::VARCHAR::BLOB, ?, ?)", rows)
        connection.execute(f"COPY rows TO '{file}'")
    output = app.test_cli_runner().invoke(args=["store", "import", str(file)]).output
    # The largest number is a year in which the store can hold hits.
    assert output == "new: 2\nalready there: 0\nquarantined: 4\n"
    reasons = [row["reason"] for row in client.get("/v0/store/quarantine").get_json()["rows"]]
    assert sorted(reasons) == ["not valid JSON in UTF-8"] + ["timestamp must be a date and time"] * 3


def test_a_parquet_file_holds_the_rows_in_their_order_in_small_groups(tmp_path: Path) -> None:
    lines = [
        json.dumps({"session_id": f"{n:08}", "payload": {"a": random.randbytes(500).hex()}}) for n in range(60_000)
    ]
    file = tmp_path / "rows.parquet"
    assert parquet.write(file, [f"{line}\n".encode() for line in lines], 128) == len(lines)
    with duckdb.connect(config={"threads": 1}) as connection:
        found = connection.execute(f"SELECT session_id FROM '{file}'").fetchall()
        groups = connection.execute(f"SELECT count(DISTINCT row_group_id) FROM parquet_metadata('{file}')").fetchall()
    assert [session_id for (session_id,) in found] == [f"{n:08}" for n in range(60_000)]
    assert groups[0][0] > 2
