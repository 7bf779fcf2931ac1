"""An append returns when its rows are committed; appends in flight together share one commit.

- A row is in the file, synced, before its sender hears of it. Whatever dies before that was never promised.
- A hit is counted once per site and event_id. A repeat is known by a hit of that event_id within a day of its own
  timestamp, however much later it is delivered: the timestamp is part of the event, so a redelivery has the same. The
  price is one look at the event_ids of those days for each commit, which the zone maps of `ts` keep short; there is no
  index to hold in memory or to rebuild at start. Hits without an event_id are all kept.
- Sessions are brought up to date in the same transaction as their hits.
- A batch that fails takes no other down: it is tried again alone, and only its sender hears of it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import duckdb

from analytics_store import sessions
from analytics_store.database import Database, parameters_of, statement
from analytics_store.errors import StoreError, UnavailableError
from analytics_store.events import COLUMNS, Hit, Misfit, Row, Whole

# More would make the first of the queue wait for the last; a commit of this many takes well under a second.
ROWS_PER_COMMIT = 10_000
# Seconds that an append waits for retention or compaction. Then its sender, who keeps the rows, hears of it.
LONGEST_WAIT = 15.0


@dataclass(slots=True, eq=False)
class Batch:
    """The rows of one request, waiting for their commit."""

    rows: list[Row]
    done: bool = False
    failure: StoreError | None = None
    counts: tuple[int, int] = field(default=(0, 0))


class Hits:
    """The only way to add rows."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._queue: list[Batch] = []
        # Guards the queue and the flag; the flag is held by one request in flight, by retention or by compaction.
        self._change = threading.Condition()
        self._writing = False

    def append(self, rows: list[Row]) -> tuple[int, int]:
        """Keep the rows; return how many fit and how many were set aside, once they are committed."""
        batch = Batch(rows)
        with self._change:
            self._queue.append(batch)
            if not self._change.wait_for(lambda: batch.done or not self._writing, LONGEST_WAIT):
                if batch in self._queue:
                    self._queue.remove(batch)
                    raise UnavailableError("the store is busy with its upkeep; send again later")
                # Its commit is under way, and how it ends must be known.
                self._change.wait_for(lambda: batch.done)
            if not batch.done:
                self._writing = True
        # Whoever finds nobody writing writes for all that are waiting.
        if not batch.done:
            try:
                while not batch.done:
                    self._commit(self._next())
            finally:
                self._leave()
        if batch.failure is not None:
            raise batch.failure
        return batch.counts

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep appends waiting meanwhile; after LONGEST_WAIT they are refused, and their senders come again."""
        with self._change:
            self._change.wait_for(lambda: not self._writing)
            self._writing = True
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._change:
            self._writing = False
            self._change.notify_all()

    def _next(self) -> list[Batch]:
        """Take the oldest batches of the queue, at least one."""
        with self._change:
            taken, rows = 0, 0
            while taken < len(self._queue) and (taken == 0 or rows < ROWS_PER_COMMIT):
                rows += len(self._queue[taken].rows)
                taken += 1
            batches, self._queue = self._queue[:taken], self._queue[taken:]
            return batches

    def _commit(self, batches: list[Batch]) -> None:
        failure: StoreError = UnavailableError("the store failed")
        try:
            self._write([row for batch in batches for row in batch.rows])
        except StoreError as error:
            failure = error
        else:
            for batch in batches:
                misfits = sum(isinstance(row, Misfit) for row in batch.rows)
                batch.counts = (len(batch.rows) - misfits, misfits)
                batch.done = True
        finally:
            # Whatever happened, nobody waits for ever.
            if len(batches) == 1 and not batches[0].done:
                batches[0].failure, batches[0].done = failure, True
            for batch in batches:
                if not batch.done:
                    self._commit([batch])

    def _write(self, rows: list[Row]) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC).replace(tzinfo=None)
        hits = sorted((row for row in rows if isinstance(row, Hit)), key=lambda hit: hit.ts)
        with self._database.cursor() as cursor:
            cursor.execute("BEGIN")
            if hits := _without_repeats(cursor, hits):
                _add(cursor, hits, now)
            if wholes := [row for row in rows if isinstance(row, Whole)]:
                run(cursor, "sql/append_whole.sql", _columns(wholes, ("name", "site_uuid", "ts", "event"), now))
            if misfits := [row for row in rows if isinstance(row, Misfit)]:
                run(cursor, "sql/append_misfits.sql", _columns(misfits, ("name", "row", "reason"), now))
            cursor.execute("COMMIT")


def run(cursor: duckdb.DuckDBPyConnection, path: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Run a file of statements with the values that each names; return the rows of the last."""
    for part in cursor.extract_statements(statement(path)):
        cursor.execute(part, {name: values[name] for name in parameters_of(part.query)})
    return cursor.fetchall()


def _without_repeats(cursor: duckdb.DuckDBPyConnection, hits: list[Hit]) -> list[Hit]:
    keys = [hit.event_key for hit in hits if hit.event_key is not None]
    if not keys:
        return hits
    values = {"first": hits[0].ts, "last": hits[-1].ts, "event_keys": keys}
    seen = set(run(cursor, "sql/repeats.sql", values))
    fresh = []
    for hit in hits:
        name = (hit.site_uuid, hit.event_key)
        if hit.event_key is None or name not in seen:
            fresh.append(hit)
            seen.add(name)
    return fresh


def _add(cursor: duckdb.DuckDBPyConnection, hits: list[Hit], now: datetime) -> None:
    visits = sessions.group(hits)
    found = run(cursor, "sql/known_sessions.sql", {"session_keys": list(visits)})
    numbers = {key: number for key, number, _ in found}
    if found:
        run(cursor, "sql/update_sessions.sql", sessions.columns([visits[key] for key in numbers], numbers))
    if earlier := [visits[key] for key, _, first_ts in found if visits[key].entry.ts < first_ts]:
        run(cursor, "sql/begin_sessions_earlier.sql", sessions.columns(earlier, numbers))
    if new := [visit for key, visit in visits.items() if key not in numbers]:
        fresh = run(cursor, "sql/session_numbers.sql", {"count": len(new)})
        numbers |= {visit.entry.session_key: number for visit, (number,) in zip(new, fresh, strict=True)}
        run(cursor, "sql/insert_sessions.sql", sessions.columns(new, numbers))
    run(cursor, "sql/insert_hits.sql", _hit_columns(hits, numbers, now))


def _columns(rows: Iterable[Row], names: tuple[str, ...], now: datetime) -> dict[str, Any]:
    return {"now": now} | {name: [getattr(row, name) for row in rows] for name in names}


def _hit_columns(hits: list[Hit], numbers: dict[UUID, int], now: datetime) -> dict[str, Any]:
    names = ("ts", "site_uuid", "event_key", "event_name", "version", "source", "received_at", "meta", "rest")
    values = _columns(hits, names, now)
    values["session_no"] = [numbers[hit.session_key] for hit in hits]
    values["inserted_at"] = [hit.inserted_at or now for hit in hits]
    for column, texts in zip(COLUMNS.values(), zip(*(hit.texts for hit in hits), strict=True), strict=True):
        values[column] = list(texts)
    return values
