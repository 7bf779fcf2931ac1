import random
from dataclasses import replace
from datetime import datetime, timedelta

import duckdb
import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.columns import ENTRY, TEXTS
from analytics_store.pieces import FIXED_BYTES, ROWS_AT_ONCE, Table, split
from analytics_store.settings import Settings
from analytics_store.wiring import create_app

START = datetime(1980, 1, 1)  # noqa: DTZ001 - UTC without a zone, as in the store
LIMIT = 20_000
MEMORY_MB = 64


@pytest.mark.parametrize("name", [None, "a", "nothing"])
@pytest.mark.parametrize(
    "span", [timedelta(0), timedelta(microseconds=900), timedelta(seconds=30), timedelta(days=9_000)]
)
def test_pieces_hold_every_row_once_in_the_order_of_time_and_are_small(span: timedelta, name: str | None) -> None:
    rng = random.Random(span.total_seconds())
    rows = [
        (number, rng.choice("ab"), START + rng.random() * span, "x" * rng.choice((0, 10, 100, 3_000)))
        for number in range(2_000)
    ]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (number BIGINT, name VARCHAR, ts TIMESTAMP, text VARCHAR)")
        connection.execute(
            "INSERT INTO t SELECT unnest(?), unnest(?), unnest(?), unnest(?)", list(zip(*rows, strict=True))
        )
        table = Table("t", "ts", name)
        found = [
            connection.execute(
                f"SELECT number, ts, strlen(text) FROM t WHERE {table.piece} ORDER BY ts", piece.values(table)
            ).fetchall()
            for piece in split(connection, table, LIMIT)
        ]
    expected = [row[0] for row in rows if name in (None, row[1])]
    assert sorted(row[0] for piece in found for row in piece) == expected
    for piece in found:
        assert sum(row[2] + FIXED_BYTES + 1 for row in piece) <= LIMIT or len(piece) <= ROWS_AT_ONCE
    milliseconds = [(row[1] - START) // timedelta(milliseconds=1) for piece in found for row in piece]
    assert milliseconds == sorted(milliseconds)


def fill(app: Flask, rows: int) -> None:
    """Add hits as wide as earlier versions stored them, a second after each other."""
    wide = "array_to_string(list_transform(range(250), lambda x: md5(number || '-' || x)), '')"
    texts = ", ".join(f"{wide if name in {'href', 'pathname'} else chr(39) * 2} AS {name}" for name in TEXTS.values())
    entry = ", ".join(f"'' AS {name}" for name in ENTRY)
    with app.extensions["store"].database.cursor() as cursor:
        for first in range(0, rows, 1_000):
            cursor.execute(
                f"INSERT INTO hits BY NAME SELECT 'site' AS site_uuid, '2026-11-01'::TIMESTAMP + to_seconds(number)"
                " AS ts, 1 AS session_no, md5(number::VARCHAR)::UUID AS event_key, '' AS event_name, '1' AS version,"
                f" '' AS source, ts AS inserted_at, {texts}, '' AS meta, '' AS rest"
                f" FROM range({first}, {min(rows, first + 1_000)}) numbers(number)"
            )
        cursor.execute(
            "INSERT INTO sessions BY NAME SELECT 1 AS session_no, uuid() AS session_key, 'site' AS site_uuid,"
            " 's' AS session_id, '2026-11-01'::TIMESTAMP AS first_ts, first_ts AS last_ts, 1 AS pageviews,"
            f" {entry}"
        )


def test_wide_hits_of_more_bytes_than_the_memory_are_exported_and_compacted(
    settings: Settings,
) -> None:
    filling = create_app(settings)
    fill(filling, 2 * MEMORY_MB * 2**20 // 16_000)
    filling.extensions["store"].database.close()
    app = create_app(replace(settings, memory_mb=MEMORY_MB))
    client: FlaskClient = app.test_client()
    response = client.get("/v0/store/export?name=analytics_events", buffered=False)
    rows = sum(chunk.count(b"\n") for chunk in response.iter_encoded())
    assert (rows, str(rows)) == (client.get("/v0/store/info").get_json()["hits"], response.headers["x-store-rows"])
    assert client.post("/v0/store/compact").get_json()["hits"] == rows
    app.extensions["store"].database.close()
