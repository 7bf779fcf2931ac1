"""Append rows in one transaction: each hit once, and its session with it.

A repeat is a hit whose event_id a hit of the same site has within a day of its own timestamp. The zone maps of `ts`
keep this look at the event_ids of those days short; there is no index to hold in memory or to rebuild at the start.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import duckdb

from analytics_store import sessions
from analytics_store.columns import TEXTS
from analytics_store.duckdb_engine.statements import run
from analytics_store.events import Hit, QuarantinedRow, RawRow, Row


def append(cursor: duckdb.DuckDBPyConnection, rows: list[Row], now: datetime) -> None:
    """Add rows that arrived at `now`, and commit."""
    hits = sorted((row for row in rows if isinstance(row, Hit)), key=lambda hit: hit.ts)
    cursor.execute("BEGIN")
    if hits := _without_repeats(cursor, hits):
        _add(cursor, hits, now)
    if raw := [row for row in rows if isinstance(row, RawRow)]:
        run(cursor, "sql/append_raw.sql", _to_columns(raw, ("name", "site_uuid", "ts", "event"), now))
    if quarantined := [row for row in rows if isinstance(row, QuarantinedRow)]:
        run(cursor, "sql/append_quarantined.sql", _to_columns(quarantined, ("name", "row", "reason"), now))
    cursor.execute("COMMIT")


def _without_repeats(cursor: duckdb.DuckDBPyConnection, hits: list[Hit]) -> list[Hit]:
    keys = [hit.event_key for hit in hits if hit.event_key is not None]
    if not keys:
        return hits
    values = {"first": hits[0].ts, "last": hits[-1].ts, "event_keys": keys}
    seen = set(run(cursor, "sql/repeats.sql", values))
    fresh = []
    for hit in hits:
        key = (hit.site_uuid, hit.event_key)
        if hit.event_key is None or key not in seen:
            fresh.append(hit)
            seen.add(key)
    return fresh


def _add(cursor: duckdb.DuckDBPyConnection, hits: list[Hit], now: datetime) -> None:
    visits = sessions.group(hits)
    known = run(cursor, "sql/known_sessions.sql", {"session_keys": list(visits)})
    numbers = {key: number for key, number, _ in known}
    if known:
        run(cursor, "sql/update_sessions.sql", sessions.to_columns([visits[key] for key in numbers], numbers))
    if earlier := [visits[key] for key, _, first_ts in known if visits[key].entry.ts < first_ts]:
        run(cursor, "sql/begin_sessions_earlier.sql", sessions.to_columns(earlier, numbers))
    if new := [visit for key, visit in visits.items() if key not in numbers]:
        rows = run(cursor, "sql/session_numbers.sql", {"count": len(new)})
        numbers |= {visit.entry.session_key: number for visit, (number,) in zip(new, rows, strict=True)}
        run(cursor, "sql/insert_sessions.sql", sessions.to_columns(new, numbers))
    run(cursor, "sql/insert_hits.sql", _hits_to_columns(hits, numbers, now))


def _to_columns(rows: Iterable[Row], names: tuple[str, ...], now: datetime) -> dict[str, Any]:
    return {"now": now} | {name: [getattr(row, name) for row in rows] for name in names}


def _hits_to_columns(hits: list[Hit], numbers: dict[UUID, int], now: datetime) -> dict[str, Any]:
    names = ("ts", "site_uuid", "event_key", "event_name", "version", "received_at", "meta", "rest")
    values = _to_columns(hits, names, now)
    values["session_no"] = [numbers[hit.session_key] for hit in hits]
    values["inserted_at"] = [hit.inserted_at or now for hit in hits]
    return values | {column: [hit.texts[column] for hit in hits] for column in ("source", *TEXTS.values())}
