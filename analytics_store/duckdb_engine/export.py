"""Export a data source as NDJSON, piece by piece, from one snapshot."""

from collections.abc import Iterator

import duckdb

from analytics_store.duckdb_engine.pieces import Piece, Table, split
from analytics_store.duckdb_engine.statements import read_sql
from analytics_store.events import PAGE_HITS

LINES_AT_ONCE = 200
"""Lines that an export reads at once."""


def export(cursor: duckdb.DuckDBPyConnection, name: str, piece_bytes: int) -> Iterator[bytes]:
    """Write a data source, page hits in the order of time; memory use is a few times `piece_bytes`."""
    cursor.execute("BEGIN")
    if name == PAGE_HITS:
        yield from _export(cursor, Table("hits", "ts"), Piece(), piece_bytes, read_sql("sql/export_hits.sql"))
    of_name = Piece({"name": (name, name)})
    sql = "SELECT event FROM rows ORDER BY ts, inserted_at"
    yield from _export(cursor, Table("whole", "ts"), of_name, piece_bytes, sql)


def _export(
    cursor: duckdb.DuckDBPyConnection, table: Table, whole: Piece, piece_bytes: int, sql: str
) -> Iterator[bytes]:
    for piece in split(cursor, table, piece_bytes, whole):
        selected = f"WITH rows AS (SELECT * FROM {table.path} WHERE {piece.condition})\n"  # noqa: S608 - the names are this package's own
        cursor.execute(selected + sql, piece.values)
        while lines := cursor.fetchmany(LINES_AT_ONCE):
            yield "".join([f"{line}\n" for (line,) in lines]).encode()
