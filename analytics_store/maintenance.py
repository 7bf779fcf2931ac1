"""Maintain a store that goes on serving: info, export, compaction, collapse of versions, retention."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import duckdb

from analytics_store.database import read_sql
from analytics_store.endpoints import AUTOMATIONS
from analytics_store.errors import DataSourceError
from analytics_store.events import DATA_SOURCES, PAGE_HITS
from analytics_store.hits import run
from analytics_store.pieces import Piece, Table, split
from analytics_store.store import Store

_log = logging.getLogger(__name__)

LINES_AT_ONCE = 200
"""Lines that an export reads at once."""
PIECES_IN_MEMORY = 16
"""Share of STORE_MEMORY_MB that a piece of a table may fill: sorting and writing it takes several times its size."""
TABLES = (
    Table("hits", "ts", "site_uuid"),
    Table("sessions", "first_ts", "site_uuid"),
    Table("whole", "ts", "name"),
    Table("quarantine", "inserted_at"),
)
"""Tables and the order of their rows in a compacted file: the hits of a site are adjacent."""
SECONDS_BETWEEN_RETENTIONS = 3_600.0


def info(store: Store) -> dict[str, Any]:
    """Return the counts of the store's content, and its size on disk."""
    result = store.database.query(read_sql("sql/info.sql"), {})
    facts = dict(zip([name for name, _ in result.columns], result.rows[0], strict=True))
    facts["bytes_on_disk"] = store.database.size()
    facts["bytes_free_in_file"] = store.database.free_bytes()
    facts["max_mb"] = store.settings.max_mb
    facts["retention_days"] = store.settings.retention_days
    facts["memory_mb"] = store.settings.memory_mb
    return facts


def count(store: Store, name: str) -> int:
    """Return the number of rows in an export of a data source."""
    if name not in DATA_SOURCES:
        raise DataSourceError("there is no data source of this name")
    result = store.database.query("SELECT count(*) FROM whole WHERE name = $name", {"name": name})
    rows: int = result.rows[0][0]
    if name == PAGE_HITS:
        rows += store.database.query("SELECT count(*) FROM hits", {}).rows[0][0]
    return rows


def export(store: Store, name: str) -> Iterator[bytes]:
    """Write a data source as NDJSON, page hits in the order of time, from one snapshot; memory use is bounded."""
    with store.database.cursor() as cursor:
        cursor.execute("BEGIN")
        if name == PAGE_HITS:
            yield from _export(store, cursor, Table("hits", "ts"), Piece(), read_sql("sql/export_hits.sql"))
        of_name = Piece({"name": (name, name)})
        sql = "SELECT event FROM rows ORDER BY ts, inserted_at"
        yield from _export(store, cursor, Table("whole", "ts"), of_name, sql)


def _export(store: Store, cursor: duckdb.DuckDBPyConnection, table: Table, whole: Piece, sql: str) -> Iterator[bytes]:
    for piece in split(cursor, table, _piece_bytes(store), whole):
        selected = f"WITH rows AS (SELECT * FROM {table.path} WHERE {piece.condition})\n"  # noqa: S608 - the names are this package's own
        cursor.execute(selected + sql, piece.values)
        while lines := cursor.fetchmany(LINES_AT_ONCE):
            yield "".join([f"{line}\n" for (line,) in lines]).encode()


def _piece_bytes(store: Store) -> int:
    return store.settings.memory_mb * 2**20 // PIECES_IN_MEMORY


def compact(store: Store) -> None:
    """Collapse, then write a new file in the order of site and time and without unused space, in place of the old one.

    Appends wait meanwhile, or are refused and sent again; queries wait only while the files are exchanged. The second
    file needs space. If the compaction breaks off, the old file is unchanged.
    """
    with store.hits.paused():
        _collapse(store)
        file = store.database.compaction_file
        file.unlink(missing_ok=True)
        with store.database.cursor() as cursor:
            cursor.execute("ATTACH $file AS compacted", {"file": str(file)})
            try:
                cursor.execute("USE compacted")
                run(cursor, "sql/schema.sql", {})
                for table in TABLES:
                    _copy(store, cursor, table)
            finally:
                cursor.execute("USE store")
                cursor.execute("DETACH compacted")
        store.database.replace(file)
    _log.info("the file was compacted", extra={"event": "StoreCompacted"})


def _copy(store: Store, cursor: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Copy a table to the attached file, in its order."""
    source = replace(table, path=f"store.{table.path}")
    cursor.execute("BEGIN")
    for piece in split(cursor, source, _piece_bytes(store)):
        selected = f"SELECT * FROM {source.path} WHERE {piece.condition} ORDER BY {table.order}"  # noqa: S608 - the names are this package's own
        cursor.execute(f"INSERT INTO compacted.{table.path} BY NAME {selected}", piece.values)
    cursor.execute("COMMIT")


def count_versions(store: Store) -> int:
    """Return the number of rows of automations, with every version counted."""
    result = store.database.query(read_sql(AUTOMATIONS) + read_sql("sql/count_versions.sql"), {})
    rows: int = result.rows[0][0]
    return rows


def collapse(store: Store) -> int:
    """Delete all versions of automations' rows but the newest, which alone counts; return how many were deleted.

    It is one statement, so a store that is killed meanwhile still has them all. Appends wait.
    """
    with store.hits.paused():
        return _collapse(store)


def _collapse(store: Store) -> int:
    with store.database.cursor() as cursor:
        deleted = cursor.execute(read_sql(AUTOMATIONS) + read_sql("sql/collapse.sql")).fetchall()
    rows: int = deleted[0][0]
    if rows:
        _log.info("old versions of rows were deleted", extra={"event": "VersionsCollapsed", "versions": rows})
    return rows


def apply_retention(store: Store) -> float:
    """Delete expired rows; return the seconds until the next call."""
    delete_expired(store)
    return SECONDS_BETWEEN_RETENTIONS


def delete_expired(store: Store) -> int:
    """Delete the rows that are older than STORE_RETENTION_DAYS; return how many hits were deleted."""
    days = store.settings.retention_days
    if days is None:
        return 0
    before = store.now() - timedelta(days=days)
    with store.hits.paused(), store.database.cursor() as cursor:
        cursor.execute("BEGIN")
        counted = cursor.execute("SELECT count(*) FROM hits WHERE ts < $before", {"before": before}).fetchall()
        run(cursor, "sql/delete_expired.sql", {"before": before})
        cursor.execute("COMMIT")
    hits: int = counted[0][0]
    facts = {"hits": hits, "before": before.isoformat()}
    _log.info("hits older than the retention were deleted", extra={"event": "RetentionApplied", **facts})
    return hits
