"""Accept rows into the journal, and write them to the engine in the background.

- An append returns when its rows are synced in the journal; appends in flight together share one sync.
- At least every SECONDS_BETWEEN the rows are written to the engine, in one transaction with the journal's position. So
  each row is written once, at whatever moment the process is killed.
- `apply` returns when all rows that were accepted before its call can be queried.
- Parsed rows stay in memory until they are written, up to ROWS_IN_MEMORY; beyond, the journal is read again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from analytics_store import events
from analytics_store.disk import DiskLimit
from analytics_store.engine import Engine
from analytics_store.errors import RefusedRowsError, UnavailableError
from analytics_store.events import QuarantinedRow, Row
from analytics_store.journal import Batch, Journal
from traffic_analytics.runtime.joiner import Joiner

_log = logging.getLogger(__name__)

SECONDS_BETWEEN = 0.75
"""Pause between writes to the engine, in seconds: rows can be queried within a second."""
ROWS_PER_COMMIT = 5_000
"""Rows from which no further frame of the journal is added to a transaction."""
ROWS_IN_MEMORY = 10_000
"""Most parsed rows that wait in memory, apart from the last append's."""
LONGEST_WAIT = 15.0
"""Longest wait for maintenance, in seconds."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Lines that one request appends, and their rows."""

    batch: Batch
    rows: list[Row]


@dataclass(slots=True)
class Waiting:
    """A frame of the journal that the engine does not have yet; `rows` is None if it must be read again."""

    start: int
    end: int
    at: float
    rows: list[Row] | None


class Hits:
    """Write rows; every append goes through this class."""

    def __init__(self, engine: Engine, journal: Journal, clock: Callable[[], float], disk: DiskLimit) -> None:
        self._engine = engine
        self._journal = journal
        self._disk = disk
        self._clock = clock
        self._appends: Joiner[Arrival, None] = Joiner(
            self._accept, max_size=ROWS_PER_COMMIT, size_of=lambda arrival: len(arrival.rows)
        )
        # Held by the thread that writes to the engine.
        self._writing = threading.Lock()
        self._opening = threading.Lock()
        self._opened = False
        self._waiting: deque[Waiting] = deque()
        # Each is changed by one thread at a time: the one that appends to the journal, or the one that writes.
        self._rows_parsed = 0
        self._rows_written = 0
        self._applied = 0
        self._in_doubt = False

    def open(self) -> None:
        """Read the journal's frames that the engine does not have. Raises DamagedFile, or UnavailableError."""
        if self._opened:
            return
        with self._opening:
            if not self._opened:
                self._engine.open()
                self._applied = self._engine.position()
                # Only their places: there may be more rows than fit in memory.
                self._waiting = deque(
                    Waiting(frame.start, frame.end, frame.batches[0].at, None)
                    for frame in self._journal.open(self._applied)
                )
                self._opened = True

    def close(self) -> None:
        """Write all rows, and delete the journal."""
        if self._opened:
            with self.paused():
                self._opened = False

    def append(self, name: str, lines: list[bytes]) -> tuple[int, int]:
        """Store the lines of a data source; return how many were accepted and how many quarantined, once synced."""
        at = self._clock()
        rows = events.parse(name, lines, _to_datetime(at))
        error = self._appends.submit(Arrival(Batch(at, name, lines), rows)).wait()
        if error is not None:
            raise error
        quarantined = sum(isinstance(row, QuarantinedRow) for row in rows)
        return len(rows) - quarantined, quarantined

    def add(self, name: str, lines: list[bytes]) -> dict[str, int]:
        """Write lines to the engine at once, without the journal; return how many were new, known, and quarantined."""
        self.open()
        rows = events.parse(name, lines, _to_datetime(self._clock()))
        quarantined = sum(isinstance(row, QuarantinedRow) for row in rows)
        with self._write_alone():
            self._disk.check()
            known = self._engine.append(rows, None)
        return {"new": len(rows) - known - quarantined, "known": known, "quarantined": quarantined}

    def info(self) -> dict[str, Any]:
        """Return the size of the rows that wait in the journal, and the age of the oldest."""
        oldest = next(iter(self._waiting.copy()), None)
        return {
            "journal_bytes": self._journal.waiting_bytes,
            "journal_seconds": 0.0 if oldest is None else round(self._clock() - oldest.at, 3),
        }

    def apply(self) -> None:
        """Write all rows to the engine that are accepted by now."""
        self.open()
        end = self._journal.end
        with self._write_alone():
            self._apply(end)

    def apply_waiting(self) -> float:
        """Write rows, unless maintenance is in progress; return the seconds until the next call."""
        self.open()
        if self._waiting and self._writing.acquire(timeout=SECONDS_BETWEEN):
            try:
                self._apply(self._journal.end)
            finally:
                self._writing.release()
        return SECONDS_BETWEEN if self._rows_parsed - self._rows_written < ROWS_PER_COMMIT else 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Write all rows, and let no other thread write meanwhile; appends are accepted into the journal.

        Rows that maintenance deletes are in no file of the journal either.
        """
        self.open()
        with self._writing:
            self._apply(self._journal.end)
            self._journal.release(self._applied, current=True)
            yield

    @contextmanager
    def _write_alone(self) -> Iterator[None]:
        if not self._writing.acquire(timeout=LONGEST_WAIT):
            raise UnavailableError("the store is busy with its maintenance; accepted rows appear later")
        try:
            yield
        finally:
            self._writing.release()

    def _accept(self, arrivals: list[Arrival]) -> list[None]:
        self.open()
        self._disk.check()
        frame = self._journal.append([arrival.batch for arrival in arrivals])
        rows = list(chain.from_iterable(arrival.rows for arrival in arrivals))
        has_room = self._rows_parsed - self._rows_written < ROWS_IN_MEMORY
        self._rows_parsed += len(rows) if has_room else 0
        self._waiting.append(Waiting(frame.start, frame.end, frame.batches[0].at, rows if has_room else None))
        return [None] * len(arrivals)

    def _apply(self, end: int) -> None:
        """Write the frames before a position; only the thread that holds `_writing` may call it."""
        if self._in_doubt:
            self._remove(self._engine.position())
            self._in_doubt = False
        while self._waiting and self._waiting[0].end <= end:
            rows, position = self._next_rows(ROWS_PER_COMMIT)
            # After an error the engine may have committed all the same; its position tells.
            self._in_doubt = True
            try:
                self._engine.append(rows, position)
            except RefusedRowsError:
                position = self._apply_first()
            self._in_doubt = False
            self._remove(position)

    def _apply_first(self) -> int:
        """Write the first frame alone; if the engine refuses it, its rows go to quarantine. Returns its end."""
        rows, position = self._next_rows(1)
        try:
            self._engine.append(rows, position)
        except RefusedRowsError as error:
            # A defect of the store; the rows of later frames must not wait for its repair.
            _log.error("rows were quarantined: %s", error, extra={"event": "RowsQuarantined", "rows": len(rows)})
            self._engine.append(self._quarantine_first(str(error)), position)
        return position

    def _quarantine_first(self, reason: str) -> list[Row]:
        waiting = self._waiting[0]
        return [
            events.quarantine(batch.name, line, reason, _to_datetime(batch.at))
            for batch in self._journal.read(waiting.start, waiting.end)
            for line in batch.lines
        ]

    def _next_rows(self, enough: int) -> tuple[list[Row], int]:
        """Return the rows of the first frames, until there are `enough`, and the end of the last of these frames."""
        rows: list[Row] = []
        position = 0
        for waiting in self._waiting.copy():
            rows += self._parse(waiting) if waiting.rows is None else waiting.rows
            position = waiting.end
            if len(rows) >= enough:
                break
        return rows, position

    def _parse(self, waiting: Waiting) -> list[Row]:
        batches = self._journal.read(waiting.start, waiting.end)
        return [row for batch in batches for row in events.parse(batch.name, batch.lines, _to_datetime(batch.at))]

    def _remove(self, position: int) -> None:
        while self._waiting and self._waiting[0].end <= position:
            self._rows_written += len(self._waiting.popleft().rows or ())
        self._applied = position
        self._journal.release(position)


def _to_datetime(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
