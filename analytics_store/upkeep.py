"""What is done to a store that goes on serving: look, export, compact, collapse, forget."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from analytics_store.database import statement
from analytics_store.endpoints import AUTOMATIONS
from analytics_store.errors import DataSourceError
from analytics_store.events import DATA_SOURCES, PAGE_HITS
from analytics_store.hits import run
from analytics_store.logs import say
from analytics_store.store import Store

LINES_AT_ONCE = 1_000
DAY = timedelta(days=1)


def info(store: Store) -> dict[str, Any]:
    """Tell what the store holds and what it takes on disk."""
    answer = store.database.ask(statement("sql/info.sql"), {})
    held = dict(zip([name for name, _ in answer.columns], answer.rows[0], strict=True))
    held["bytes_on_disk"] = sum(path.stat().st_size for path in store.settings.data_dir.glob("store.duckdb*"))
    held["retention_days"] = store.settings.retention_days
    held["memory_mb"] = store.settings.memory_mb
    return held


def count(store: Store, name: str) -> int:
    """Tell how many rows an export of a data source holds."""
    if name not in DATA_SOURCES:
        raise DataSourceError("there is no data source of this name")
    answer = store.database.ask("SELECT count(*) FROM whole WHERE name = $name", {"name": name})
    rows: int = answer.rows[0][0]
    if name == PAGE_HITS:
        rows += store.database.ask("SELECT count(*) FROM hits", {}).rows[0][0]
    return rows


def export(store: Store, name: str) -> Iterator[bytes]:
    """Write a data source as NDJSON, page hits in the order of time, from one snapshot and in little memory."""
    with store.database.cursor() as cursor:
        cursor.execute("BEGIN")
        if name == PAGE_HITS:
            days: list[datetime] = [
                row[0]
                for row in cursor.execute("SELECT DISTINCT date_trunc('day', ts) FROM hits ORDER BY 1").fetchall()
            ]
            for day in days:
                start = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - UTC, as everywhere in the store
                cursor.execute(statement("sql/export_hits.sql"), {"since": start, "until": start + DAY})
                while lines := cursor.fetchmany(LINES_AT_ONCE):
                    yield "".join([f"{line}\n" for (line,) in lines]).encode()
        cursor.execute("SELECT event FROM whole WHERE name = $name ORDER BY ts, inserted_at", {"name": name})
        while lines := cursor.fetchmany(LINES_AT_ONCE):
            yield "".join([f"{line}\n" for (line,) in lines]).encode()


def compact(store: Store) -> None:
    """Collapse, then write a new file, in the order of time and without unused room, in place of the old one.

    Appends wait meanwhile, or are refused and come again; questions wait only while the files change places. Needs room
    for the second file. Whenever it breaks off, the old file is still there, whole.
    """
    with store.hits.paused():
        _collapse(store)
        file = store.database.beside
        file.unlink(missing_ok=True)
        with store.database.cursor() as cursor:
            cursor.execute("ATTACH $file AS compacted", {"file": str(file)})
            try:
                cursor.execute("USE compacted")
                run(cursor, "sql/schema.sql", {})
                run(cursor, "sql/compact.sql", {})
            finally:
                cursor.execute("USE store")
                cursor.execute("DETACH compacted")
        store.database.replace(file)
    say(logging.INFO, "store.compacted")


def count_versions(store: Store) -> int:
    """Tell how many rows of automations there are, every version counted."""
    answer = store.database.ask(statement(AUTOMATIONS) + statement("sql/count_versions.sql"), {})
    rows: int = answer.rows[0][0]
    return rows


def collapse(store: Store) -> int:
    """Delete all versions of automations' rows but the newest, the only one that counts; return how many those were.

    One statement, so that a store that dies meanwhile has them all. Appends wait.
    """
    with store.hits.paused():
        return _collapse(store)


def _collapse(store: Store) -> int:
    with store.database.cursor() as cursor:
        deleted = cursor.execute(statement(AUTOMATIONS) + statement("sql/collapse.sql")).fetchall()
    rows: int = deleted[0][0]
    if rows:
        say(logging.INFO, "store.collapsed", versions=rows)
    return rows


def forget(store: Store) -> int:
    """Delete what is older than STORE_RETENTION_DAYS; return how many hits that were."""
    days = store.settings.retention_days
    if days is None:
        return 0
    before = store.now() - timedelta(days=days)
    with store.hits.paused(), store.database.cursor() as cursor:
        cursor.execute("BEGIN")
        held = cursor.execute("SELECT count(*) FROM hits WHERE ts < $before", {"before": before}).fetchall()
        run(cursor, "sql/forget.sql", {"before": before})
        cursor.execute("COMMIT")
    rows: int = held[0][0]
    say(logging.INFO, "store.forgot", hits=rows, before=before.isoformat())
    return rows
