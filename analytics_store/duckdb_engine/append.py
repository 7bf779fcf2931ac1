"""Append rows in one transaction: each hit once, and its session with it.

- A repeat is a hit whose event_id a hit of the same site has within a day of its own timestamp.
- A hit belongs to the session of its session_id, or begins a new one. The service's session_ids last a day, so only the
  sessions within SESSION_DAYS are searched for them.
- So each look-up reads the days around the new hits, by the zone maps of the times, however many hits there are. There
  is no index to hold in memory or to rebuild at the start.
- A hit or session reaches DuckDB as one JSON text: binding a list for each column takes longer.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import duckdb
import msgspec

from analytics_store import sessions
from analytics_store.duckdb_engine.settling import Settling
from analytics_store.duckdb_engine.sorting import Sorting
from analytics_store.duckdb_engine.statements import run
from analytics_store.events import Hit, QuarantinedRow, RawRow, Row
from analytics_store.timestamps import EARLIEST, LATEST

REPEAT_DAYS = timedelta(days=1)
"""Longest distance between the timestamps of a hit and of its repeat."""
SESSION_DAYS = timedelta(days=7)
"""Longest pause in a session of the service, whose session_ids last a day; clocks and queues may be late."""

_is_of_a_day = re.compile("[0-9a-f]{64}").fullmatch
"""Recognises a hash of the service, which holds the salt of a day."""
_encoder = msgspec.json.Encoder()
_timestamp = attrgetter("ts")


class Appender:
    """Add rows; holds the number of the last session."""

    def __init__(self, settling: Settling, sorting: Sorting) -> None:
        self._settling = settling
        self._sorting = sorting
        self._last_session_no: int | None = None

    def append(self, cursor: duckdb.DuckDBPyConnection, rows: list[Row], position: int | None) -> int:
        """Commit rows and the journal's position behind them; return how many were repeats."""
        hits = sorted((row for row in rows if isinstance(row, Hit)), key=_timestamp)
        cursor.execute("BEGIN")
        fresh = _without_repeats(cursor, hits)
        if fresh:
            self._add(cursor, fresh)
        if raw := [row for row in rows if isinstance(row, RawRow)]:
            run(cursor, "sql/append_raw.sql", _to_columns(raw, ("name", "site_uuid", "ts", "event", "inserted_at")))
        if quarantined := [row for row in rows if isinstance(row, QuarantinedRow)]:
            columns = _to_columns(quarantined, ("name", "row", "reason", "inserted_at"))
            run(cursor, "sql/append_quarantined.sql", columns)
        if position is not None:
            cursor.execute("UPDATE journal SET position = $position", {"position": position})
        cursor.execute("COMMIT")
        return len(hits) - len(fresh)

    def _add(self, cursor: duckdb.DuckDBPyConnection, hits: list[Hit]) -> None:
        visits = sessions.group(hits)
        known = _find_sessions(cursor, visits)
        numbers = {key: number for key, (number, _) in known.items()}
        begun = [(visit.entry.site_uuid, visit.entry.ts) for visit in visits.values()]
        begun += [(visits[key].entry.site_uuid, first_ts) for key, (_, first_ts) in known.items()]
        self._settling.unsettle(cursor, begun)
        if known:
            run(cursor, "sql/update_sessions.sql", _to_json(visits, list(known), numbers))
        if earlier := [key for key, (_, first_ts) in known.items() if visits[key].entry.ts < first_ts]:
            run(cursor, "sql/begin_sessions_earlier.sql", _to_json(visits, earlier, numbers))
        if new := [key for key in visits if key not in numbers]:
            # Sessions adjacent in time have adjacent numbers, which compress well.
            first = self._next_session_no(cursor)
            numbers.update(zip(new, range(first, first + len(new)), strict=True))
            self._last_session_no = first + len(new) - 1
            run(cursor, "sql/insert_sessions.sql", _to_json(visits, new, numbers))
        values = {"session_no": [numbers[hit.session_key] for hit in hits], "hits": _encode(hits)}
        run(cursor, "sql/insert_hits.sql", values)
        self._sorting.note_late(cursor, hits)

    def _next_session_no(self, cursor: duckdb.DuckDBPyConnection) -> int:
        if self._last_session_no is None:
            (found,) = cursor.execute("SELECT coalesce(max(session_no), 0) FROM sessions").fetchall()
            self._last_session_no = found[0]
        return self._last_session_no + 1


def _without_repeats(cursor: duckdb.DuckDBPyConnection, hits: list[Hit]) -> list[Hit]:
    seen: set[tuple[str, str | None]] = set()
    for cluster in _clusters(hits, REPEAT_DAYS):
        if keys := [hit.event_key for hit in cluster if hit.event_key is not None]:
            since, until = cluster[0].ts - REPEAT_DAYS, cluster[-1].ts + REPEAT_DAYS
            repeats = _look_up(cursor, "sql/repeats.sql", cluster, keys, since, until)
            seen |= {(site, key.hex) for site, key in repeats}
    fresh = []
    for hit in hits:
        key = (hit.site_uuid, hit.event_key)
        if hit.event_key is None:
            fresh.append(hit)
        elif key not in seen:
            fresh.append(hit)
            seen.add(key)
    return fresh


def _find_sessions(
    cursor: duckdb.DuckDBPyConnection, visits: dict[str, sessions.Visit]
) -> dict[str, tuple[int, datetime]]:
    """Return the numbers and first hits of the sessions that are in the table."""
    entries = [visit.entry for visit in visits.values()]
    of_a_day = [hit for hit in entries if _is_of_a_day(hit.session_id)]
    others = [hit for hit in entries if not _is_of_a_day(hit.session_id)]
    around = [
        (hits, hits[0].ts - SESSION_DAYS, hits[-1].ts + SESSION_DAYS) for hits in _clusters(of_a_day, SESSION_DAYS)
    ]
    found = {}
    for hits, since, until in [*around, (others, EARLIEST, LATEST)] if others else around:
        keys = [hit.session_key for hit in hits]
        for key, number, first_ts in _look_up(cursor, "sql/known_sessions.sql", hits, keys, since, until):
            found[key.hex] = (number, first_ts)
    return found


def _clusters(hits: list[Hit], gap: timedelta) -> Iterator[list[Hit]]:
    """Split hits, which are in the order of time, at each gap: a single late hit must not widen a look-up."""
    start = 0
    for place in range(1, len(hits)):
        if hits[place].ts - hits[place - 1].ts > 2 * gap:
            yield hits[start:place]
            start = place
    if hits:
        yield hits[start:]


def _look_up(
    cursor: duckdb.DuckDBPyConnection, path: str, hits: list[Hit], keys: list[str], since: datetime, until: datetime
) -> list[tuple[Any, ...]]:
    sites = {hit.site_uuid for hit in hits}
    values = {"since": since, "until": until, "keys": keys, "first_site": min(sites), "last_site": max(sites)}
    return run(cursor, path, values)


def _to_json(visits: dict[str, sessions.Visit], keys: list[str], numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "session_no": [numbers[key] for key in keys],
        "visits": _encode([visits[key] for key in keys]),
    }


def _encode(rows: Iterable[Hit | sessions.Visit]) -> list[str]:
    return [_encoder.encode(row).decode() for row in rows]


def _to_columns(rows: Sequence[RawRow | QuarantinedRow], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: [getattr(row, name) for row in rows] for name in names}
