import random
from datetime import datetime, timedelta

import duckdb
import pytest

from analytics_store.duckdb_engine.pieces import FIXED_BYTES, ROWS_AT_ONCE, Piece, Table, split

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
