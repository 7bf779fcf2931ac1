"""Accept rows into the journal, and write them to the engine in the background.

- An append returns when its rows are synced in the journal; appends in flight together share one sync.
- At least every SECONDS_BETWEEN the rows are written to the engine, in one transaction with the journal's position. So
  each row is written once, at whatever moment the process is killed.
- Rows that need too much memory, or that the engine refuses, are written in halves. The position within a frame is its
  start plus the number of its rows that are written; a frame has more bytes than rows.
- `apply` returns when all rows that were accepted before its call can be queried.
- Parsed rows stay in memory until they are written, up to ROWS_IN_MEMORY; beyond, the journal is read again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from analytics_store import events
from analytics_store.disk import DiskLimit
from analytics_store.engine import Engine
from analytics_store.errors import OverMemoryError, RefusedRowsError, StoreError, UnavailableError
from analytics_store.events import QuarantinedRow, Row
from analytics_store.journal import Batch, Journal
from analytics_store.timestamps import from_unix
from traffic_analytics.runtime.joiner import Joiner

_log = logging.getLogger(__name__)

SECONDS_BETWEEN = 0.75
"""Pause between writes to the engine, in seconds: rows can be queried within a second."""
ROWS_PER_COMMIT = 5_000
"""Rows from which no further frame of the journal is added to a transaction."""
BYTES_PER_COMMIT = 16_000_000
"""The same in bytes: ROWS_PER_COMMIT of the widest rows need more than the least STORE_MEMORY_MB."""
PATIENCE = 60.0
"""Seconds after which a row that alone needs too much memory goes to quarantine; queries may have used the memory."""
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
    """A frame of the journal that the engine does not have yet; `rows` is None if it must be read again.

    The engine has the first `written` rows of it.
    """

    start: int
    end: int
    at: float
    rows: list[Row] | None
    written: int = 0


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
        # Held by the thread that maintains the engine.
        self._maintaining = threading.Lock()
        # Held by the thread that writes to the engine, and by maintenance that writes alone.
        self._writing = threading.Lock()
        self._opening = threading.Lock()
        self._opened = False
        self._waiting: deque[Waiting] = deque()
        # Each is changed by one thread at a time: the one that appends to the journal, or the one that writes.
        self._rows_parsed = 0
        self._rows_written = 0
        self._applied = 0
        self._in_doubt = False
        # The position of a row that alone needs too much memory, and the time at which it first did.
        self._too_wide = (-1, 0.0)

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
                    Waiting(frame.start, frame.end, frame.batches[0].at, None, max(0, self._applied - frame.start))
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
        rows = events.parse(name, lines, from_unix(at))
        error = self._appends.submit(Arrival(Batch(at, name, lines), rows)).wait()
        if error is not None:
            raise error
        quarantined = sum(isinstance(row, QuarantinedRow) for row in rows)
        return len(rows) - quarantined, quarantined

    def add(self, rows: list[Row]) -> dict[str, int]:
        """Write rows to the engine at once, without the journal; return how many were new, known, and quarantined."""
        self.open()
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
    def maintaining(self) -> Iterator[None]:
        """Keep all other maintenance away; rows are written to the engine meanwhile."""
        self.open()
        with self._maintaining:
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Write all rows, and let no other thread write meanwhile; appends are accepted into the journal.

        Rows that maintenance deletes are in no file of the journal either.
        """
        with self.maintaining(), self._writing:
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
        most: int | None = None
        while self._waiting and self._waiting[0].end <= end:
            rows, position = self._next_rows(most)
            # After an error the engine may have committed all the same; its position tells.
            self._in_doubt = True
            try:
                self._engine.append(rows, position)
            except (RefusedRowsError, OverMemoryError) as error:
                if self._engine.position() < position:
                    # Recent rows use memory until they are in their final form.
                    self._engine.checkpoint()
                    if len(rows) > 1:
                        most = len(rows) // 2
                        continue
                    self._engine.append([self._quarantine_first(error)], position)
            self._in_doubt = False
            self._remove(position)
            if most is not None:
                most = 2 * most if 2 * most < ROWS_PER_COMMIT else None

    def _quarantine_first(self, error: StoreError) -> Row:
        """Return the first row for the quarantine. Raises the error if it may be stored later."""
        waiting = self._waiting[0]
        if isinstance(error, OverMemoryError):
            place = waiting.start + waiting.written
            if self._too_wide[0] != place:
                self._too_wide = (place, self._clock())
            if self._clock() - self._too_wide[1] < PATIENCE:
                raise error
        _log.error("a row was quarantined: %s", error, extra={"event": "RowsQuarantined", "rows": 1})
        batches = self._journal.read(waiting.start, waiting.end)
        lines = ((batch, line) for batch in batches for line in batch.lines)
        batch, line = next(islice(lines, waiting.written, None))
        return events.quarantine(batch.name, line, str(error), from_unix(batch.at))

    def _next_rows(self, most: int | None) -> tuple[list[Row], int]:
        """Return the first rows, and the position behind them: those of whole frames, or at most `most`."""
        rows: list[Row] = []
        first, position = self._waiting[0], 0
        for waiting in self._waiting.copy():
            of_frame = (self._parse(waiting) if waiting.rows is None else waiting.rows)[waiting.written :]
            if most is not None and len(rows) + len(of_frame) > most:
                taken = most - len(rows)
                rows += of_frame[:taken]
                return rows, waiting.start + waiting.written + taken if taken else position
            rows += of_frame
            position = waiting.end
            if len(rows) >= ROWS_PER_COMMIT or position - first.start >= BYTES_PER_COMMIT:
                break
        return rows, position

    def _parse(self, waiting: Waiting) -> list[Row]:
        batches = self._journal.read(waiting.start, waiting.end)
        return [row for batch in batches for row in events.parse(batch.name, batch.lines, from_unix(batch.at))]

    def _remove(self, position: int) -> None:
        while self._waiting and self._waiting[0].end <= position:
            self._rows_written += len(self._waiting.popleft().rows or ())
        if self._waiting:
            self._waiting[0].written = max(0, position - self._waiting[0].start)
        self._applied = position
        self._journal.release(position)
