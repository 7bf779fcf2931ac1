import random
from dataclasses import replace
from datetime import datetime, timedelta

import duckdb
import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.columns import ENTRY, TEXTS
from analytics_store.duckdb_engine.pieces import FIXED_BYTES, ROWS_AT_ONCE, Piece, Table, split
from analytics_store.settings import Settings
from analytics_store.wiring import create_app

START = datetime(1980, 1, 1)  # noqa: DTZ001 - UTC without a zone, as in the store
LIMIT = 20_000
MEMORY_MB = 64


@pytest.mark.parametrize("name", [None, "a", "nothing"])
@pytest.mark.parametrize("table", [Table("t", "ts"), Table("t", "ts", "name")])
@pytest.mark.parametrize(
    "span", [timedelta(0), timedelta(microseconds=900), timedelta(seconds=30), timedelta(days=9_000)]
)
def test_pieces_hold_every_row_once_in_the_table_s_order_and_are_few_and_small(
    span: timedelta, table: Table, name: str | None
) -> None:
    rng = random.Random(span.total_seconds())
    names = ["a"] * 500 + [str(number) for number in range(500)]
    rows = [
        (number, rng.choice(names), START + rng.random() * span, "x" * rng.choice((0, 10, 100, 3_000)))
        for number in range(2_000)
    ]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (number BIGINT, name VARCHAR, ts TIMESTAMP, text VARCHAR)")
        connection.execute(
            "INSERT INTO t SELECT unnest(?), unnest(?), unnest(?), unnest(?)", list(zip(*rows, strict=True))
        )
        whole = Piece() if name is None else Piece({"name": (name, name)})
        found = [
            connection.execute(
                f"SELECT number, name, ts, strlen(text) FROM t WHERE {piece.condition} ORDER BY {table.order}",
                piece.values,
            ).fetchall()
            for piece in split(connection, table, LIMIT, whole)
        ]
    expected = [row[0] for row in rows if name in (None, row[1])]
    assert sorted(row[0] for piece in found for row in piece) == expected
    sizes = [sum(row[3] + FIXED_BYTES + len(row[1]) for row in piece) for piece in found]
    for piece, size in zip(found, sizes, strict=True):
        assert size <= LIMIT or len(piece) <= ROWS_AT_ONCE
    assert len(sizes) <= 4 * (1 + sum(sizes) // LIMIT)
    order = [
        (row[1] if table.first else "", (row[2] - START) // timedelta(milliseconds=1))
        for piece in found
        for row in piece
    ]
    assert order == sorted(order)


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


def test_wide_hits_of_more_bytes_than_the_memory_are_exported_and_compacted(
    settings: Settings,
) -> None:
    filling = create_app(settings)
    fill(filling, 2 * MEMORY_MB * 2**20 // 16_000)
    filling.extensions["store"].close()
    app = create_app(replace(settings, memory_mb=MEMORY_MB))
    client: FlaskClient = app.test_client()
    response = client.get("/v0/store/export?name=analytics_events", buffered=False)
    rows = sum(chunk.count(b"\n") for chunk in response.iter_encoded())
    assert (rows, str(rows)) == (client.get("/v0/store/info").get_json()["hits"], response.headers["x-store-rows"])
    assert client.post("/v0/store/compact").get_json()["hits"] == rows
    app.extensions["store"].close()


@pytest.mark.parametrize(("table", "columns"), [("hits", "site_uuid, ts"), ("sessions", "site_uuid, first_ts")])
def test_a_compacted_store_holds_all_rows_in_the_order_of_site_and_time(
    settings: Settings, table: str, columns: str
) -> None:
    app = create_app(replace(settings, memory_mb=MEMORY_MB))
    fill(app, 4_000)
    database = app.extensions["store"].engine.database
    content = f"SELECT {columns}, hash({table}) FROM {table} ORDER BY ALL"
    before = database.query(content, {}).rows
    assert app.test_client().post("/v0/store/compact").status_code == 200
    assert database.query(content, {}).rows == before
    stored = database.query(f"SELECT {columns} FROM {table} ORDER BY rowid", {}).rows
    assert stored == sorted(stored)
    assert len({site for site, _ in stored}) >= 7
    database.close()
