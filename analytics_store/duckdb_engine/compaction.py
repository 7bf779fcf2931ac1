"""Write a new file in the order of site and time and without unused space, in place of the old one."""

from dataclasses import replace

import duckdb

from analytics_store.duckdb_engine.database import Database
from analytics_store.duckdb_engine.pieces import Table, split
from analytics_store.duckdb_engine.sorting import HITS, SESSIONS
from analytics_store.duckdb_engine.statements import run

TABLES = (
    HITS,
    SESSIONS,
    Table("whole", "ts", "name"),
    Table("quarantine", "inserted_at"),
    Table("settled_days", "day", "site_uuid"),
    Table("page_days", "day", "site_uuid"),
    Table("examined_days", "day"),
    Table("sorted_periods", "first_day"),
)
"""Tables and the order of their rows in a compacted file: the hits of a site are adjacent."""


def compact(database: Database, piece_bytes: int) -> None:
    """Replace the file; queries wait only while the files are exchanged. The second file needs space.

    No other thread may write meanwhile. If the compaction breaks off, the old file is unchanged.
    """
    file = database.compaction_file
    file.unlink(missing_ok=True)
    with database.cursor() as cursor:
        cursor.execute("ATTACH $file AS compacted", {"file": str(file)})
        try:
            cursor.execute("USE compacted")
            run(cursor, "sql/schema.sql", {})
            for table in TABLES:
                _copy(cursor, table, piece_bytes)
            cursor.execute("UPDATE compacted.journal SET position = (SELECT position FROM store.journal)")
        finally:
            cursor.execute("USE store")
            cursor.execute("DETACH compacted")
    database.replace(file)


def _copy(cursor: duckdb.DuckDBPyConnection, table: Table, piece_bytes: int) -> None:
    """Copy a table to the attached file, in its order."""
    source = replace(table, path=f"store.{table.path}")
    cursor.execute("BEGIN")
    for piece in split(cursor, source, piece_bytes):
        selected = f"SELECT * FROM {source.path} WHERE {piece.condition} ORDER BY {table.order}"  # noqa: S608 - the names are this package's own
        cursor.execute(f"INSERT INTO compacted.{table.path} BY NAME {selected}", piece.values)
    cursor.execute("COMMIT")
