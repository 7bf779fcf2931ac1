"""Export a data source as NDJSON, piece by piece, in the transaction of the caller."""

from collections.abc import Iterator

import duckdb

from analytics_store.duckdb_engine.pieces import Piece, Table, split
from analytics_store.duckdb_engine.statements import read_sql
from analytics_store.events import PAGE_HITS

LINES_AT_ONCE = 200
"""Lines that an export reads at once."""
OF_SITE = "($site IS NULL OR lower(site_uuid) = $site)"


def count(cursor: duckdb.DuckDBPyConnection, name: str, site: str | None = None) -> int:
    """Return the number of rows that `export` writes."""
    values = {"name": name, "site": site}
    (whole,) = cursor.execute(f"SELECT count(*) FROM whole WHERE name = $name AND {OF_SITE}", values).fetchall()  # noqa: S608
    rows: int = whole[0]
    if name == PAGE_HITS:
        (hits,) = cursor.execute(f"SELECT count(*) FROM hits WHERE {OF_SITE}", {"site": site}).fetchall()  # noqa: S608
        rows += hits[0]
    return rows


def export(cursor: duckdb.DuckDBPyConnection, name: str, piece_bytes: int, site: str | None = None) -> Iterator[bytes]:
    """Write a data source, page hits in the order of time; memory use is a few times `piece_bytes`.

    With `site`, write the rows of that site only, one spelling of its UUID after the other.
    """
    rows = [Piece()] if site is None else [Piece({"site_uuid": (each, each)}) for each in _spellings(cursor, site)]
    if name == PAGE_HITS:
        for whole in rows:
            yield from _export(cursor, Table("hits", "ts"), whole, piece_bytes, read_sql("sql/export_hits.sql"))
    sql = "SELECT event FROM rows ORDER BY ts, inserted_at"
    for whole in rows:
        of_name = Piece({**whole.ranges, "name": (name, name)})
        yield from _export(cursor, Table("whole", "ts"), of_name, piece_bytes, sql)


def _spellings(cursor: duckdb.DuckDBPyConnection, site: str) -> list[str]:
    sql = """
        SELECT site_uuid FROM sessions WHERE lower(site_uuid) = $site
        UNION SELECT site_uuid FROM whole WHERE lower(site_uuid) = $site ORDER BY 1
    """
    return [spelling for (spelling,) in cursor.execute(sql, {"site": site}).fetchall()]


def _export(
    cursor: duckdb.DuckDBPyConnection, table: Table, whole: Piece, piece_bytes: int, sql: str
) -> Iterator[bytes]:
    for piece in split(cursor, table, piece_bytes, whole):
        selected = f"WITH rows AS (SELECT * FROM {table.path} WHERE {piece.condition})\n"  # noqa: S608 - the names are this package's own
        cursor.execute(selected + sql, piece.values)
        while lines := cursor.fetchmany(LINES_AT_ONCE):
            yield "".join([f"{line}\n" for (line,) in lines]).encode()
