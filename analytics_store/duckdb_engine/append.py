"""Append rows in one transaction: each hit once, and its session with it.

- A repeat is a hit whose event_id a hit of the same site has within a day of its own timestamp.
- A hit belongs to the session of its session_id, or begins a new one. The service's session_ids last a day, so only the
  sessions within SESSION_DAYS are searched for them.
- So each look-up reads the days around the new hits, by the zone maps of the times, however many hits there are. There
  is no index to hold in memory or to rebuild at the start.
- A hit or session reaches DuckDB as a JSON array. Binding a list for each column takes longer, and so do objects, whose
  names it would read for each hit.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count, pairwise
from operator import attrgetter
from typing import Any, TypeVar

import duckdb
import msgspec
from msgspec.structs import astuple

from analytics_store import sessions
from analytics_store.columns import ENTRY, FACTS, TEXTS
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
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_timestamp = attrgetter("ts")
_entry_timestamp = attrgetter("entry.ts")
_facts = attrgetter(*FACTS)
_entry_texts = attrgetter(*ENTRY[1:])


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
        known = _find_sessions(cursor, list(visits.values()))
        begun = [(visit.entry.site_uuid, visit.entry.ts) for visit in visits.values()]
        begun += [(visit.entry.site_uuid, first_ts) for visit, first_ts in known]
        self._settling.unsettle(cursor, begun)
        if known:
            run(cursor, "sql/update_sessions.sql", {"visits": [_encode_visit(visit) for visit, _ in known]})
        if earlier := [visit for visit, first_ts in known if visit.entry.ts < first_ts]:
            run(cursor, "sql/begin_sessions_earlier.sql", {"visits": list(map(_encode_visit, earlier))})
        if new := [visit for visit in visits.values() if not visit.session_no]:
            # Sessions adjacent in time have adjacent numbers, which compress well.
            for visit, number in zip(new, count(self._next_session_no(cursor))):
                visit.session_no = self._last_session_no = number
            run(cursor, "sql/insert_sessions.sql", {"visits": list(map(_encode_visit, new))})
        rows = [_encode_hit(hit, visits[hit.site_uuid, hit.session_id].session_no) for hit in hits]
        run(cursor, "sql/insert_hits.sql", {"hits": rows})
        self._sorting.note_late(cursor, hits)

    def _next_session_no(self, cursor: duckdb.DuckDBPyConnection) -> int:
        if self._last_session_no is None:
            (found,) = cursor.execute("SELECT coalesce(max(session_no), 0) FROM sessions").fetchall()
            self._last_session_no = found[0]
        return self._last_session_no + 1


def _without_repeats(cursor: duckdb.DuckDBPyConnection, hits: list[Hit]) -> list[Hit]:
    seen: set[tuple[str, str | None]] = set()
    for cluster in _clusters(hits, REPEAT_DAYS, _timestamp):
        if keys := [hit.event_key for hit in cluster if hit.event_key is not None]:
            since, until = cluster[0].ts - REPEAT_DAYS, cluster[-1].ts + REPEAT_DAYS
            seen.update(_look_up(cursor, "sql/repeats.sql", keys, {hit.site_uuid for hit in cluster}, since, until))
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
    cursor: duckdb.DuckDBPyConnection, visits: list[sessions.Visit]
) -> list[tuple[sessions.Visit, datetime]]:
    """Return the sessions that are in the table, with their first hits, and set their numbers."""
    of_a_day = [visit for visit in visits if _is_of_a_day(visit.entry.session_id)]
    others = [visit for visit in visits if not _is_of_a_day(visit.entry.session_id)]
    around = [
        (cluster, cluster[0].entry.ts - SESSION_DAYS, cluster[-1].entry.ts + SESSION_DAYS)
        for cluster in _clusters(of_a_day, SESSION_DAYS, _entry_timestamp)
    ]
    found = {}
    for cluster, since, until in [*around, (others, EARLIEST, LATEST)] if others else around:
        keys, sites = [visit.key for visit in cluster], {visit.entry.site_uuid for visit in cluster}
        for place, number, first_ts in _look_up(cursor, "sql/known_sessions.sql", keys, sites, since, until):
            cluster[place].session_no = number
            found[cluster[place].key] = (cluster[place], first_ts)
    return list(found.values())


def _clusters(rows: list[T], gap: timedelta, timestamp: Callable[[T], datetime]) -> Iterator[list[T]]:
    """Split rows, which are in the order of time, at each gap: a single late hit must not widen a look-up."""
    start = 0
    for place, (before, after) in enumerate(pairwise(map(timestamp, rows)), 1):
        if after - before > 2 * gap:
            yield rows[start:place]
            start = place
    if rows:
        yield rows[start:]


def _look_up(
    cursor: duckdb.DuckDBPyConnection, path: str, keys: list[str], sites: set[str], since: datetime, until: datetime
) -> list[tuple[Any, ...]]:
    values = {"since": since, "until": until, "keys": keys, "first_site": min(sites), "last_site": max(sites)}
    return run(cursor, path, values)


def _encode_hit(hit: Hit, session_no: int) -> str:
    texts = astuple(hit.texts)[: len(TEXTS)]
    return _encode(
        (
            session_no,
            hit.site_uuid,
            hit.ts,
            hit.event_key,
            hit.event_name,
            hit.version,
            hit.source,
            hit.received_at,
            hit.inserted_at,
            hit.meta,
            hit.rest,
            *texts,
        )
    ).decode()


def _encode_visit(visit: sessions.Visit) -> str:
    entry = visit.entry
    return _encode(
        (
            visit.session_no,
            visit.key,
            entry.site_uuid,
            entry.session_id,
            entry.ts,
            visit.last_ts,
            visit.pageviews,
            visit.statuses,
            *_facts(visit),
            entry.source,
            *_entry_texts(entry.texts),
        )
    ).decode()


def _to_columns(rows: Sequence[RawRow | QuarantinedRow], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: [getattr(row, name) for row in rows] for name in names}
