"""Append rows: an append returns when its rows are committed, and appends in flight together share one commit.

- A row is in the file and synced before its client gets a response. A row without a response was never promised.
- A hit counts once per site and event_id. A repeat is recognised by a hit of the same event_id within a day of its own
  timestamp, however late it is delivered: the timestamp is part of the event, so a redelivery has the same. The cost
  is one look per commit at the event_ids of those days, which the zone maps of `ts` keep short; there is no index to
  hold in memory or to rebuild at the start. Hits without an event_id are all stored.
- Sessions are updated in the same transaction as their hits.
- A batch that fails is tried again alone, so that no other fails with it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from analytics_store.disk import DiskLimit
from analytics_store.engine import Engine
from analytics_store.errors import StoreError, UnavailableError
from analytics_store.events import QuarantinedRow, Row

ROWS_PER_COMMIT = 10_000
"""Most rows of a commit, which takes well under a second; with more, the first batch of a queue waits for the last."""
LONGEST_WAIT = 15.0
"""Longest wait of an append for maintenance, in seconds. Then the client gets an error and sends again."""


@dataclass(slots=True, eq=False)
class Batch:
    """The rows of one request that wait for their commit."""

    rows: list[Row]
    done: bool = False
    failure: StoreError | None = None
    counts: tuple[int, int] = field(default=(0, 0))


class Hits:
    """Write rows; every append goes through this class."""

    def __init__(self, engine: Engine, clock: Callable[[], float], disk: DiskLimit) -> None:
        self._engine = engine
        self._disk = disk
        self._clock = clock
        self._queue: list[Batch] = []
        # Guards the queue and the flag. The flag belongs to one request at a time, or to maintenance.
        self._change = threading.Condition()
        self._writing = False

    def append(self, rows: list[Row]) -> tuple[int, int]:
        """Store the rows; return how many were accepted and how many quarantined, once they are committed."""
        batch = Batch(rows)
        with self._change:
            self._queue.append(batch)
            if not self._change.wait_for(lambda: batch.done or not self._writing, LONGEST_WAIT):
                if batch in self._queue:
                    self._queue.remove(batch)
                    raise UnavailableError("the store is busy with its maintenance; send again later")
                # Its commit is in progress, and its outcome must be known.
                self._change.wait_for(lambda: batch.done)
            if not batch.done:
                self._writing = True
        # A thread that finds no other writing commits for all that wait.
        if not batch.done:
            try:
                while not batch.done:
                    self._commit(self._next_batches())
            finally:
                self._stop_writing()
        if batch.failure is not None:
            raise batch.failure
        return batch.counts

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Make appends wait meanwhile; after LONGEST_WAIT they are refused, and their clients send again."""
        with self._change:
            self._change.wait_for(lambda: not self._writing)
            self._writing = True
        try:
            yield
        finally:
            self._stop_writing()

    def _stop_writing(self) -> None:
        with self._change:
            self._writing = False
            self._change.notify_all()

    def _next_batches(self) -> list[Batch]:
        """Remove the oldest batches from the queue, at least one, and return them."""
        with self._change:
            count, rows = 0, 0
            while count < len(self._queue) and (count == 0 or rows < ROWS_PER_COMMIT):
                rows += len(self._queue[count].rows)
                count += 1
            batches, self._queue = self._queue[:count], self._queue[count:]
            return batches

    def _commit(self, batches: list[Batch]) -> None:
        failure: StoreError = UnavailableError("the store failed")
        try:
            self._write([row for batch in batches for row in batch.rows])
        except StoreError as error:
            failure = error
        else:
            for batch in batches:
                quarantined = sum(isinstance(row, QuarantinedRow) for row in batch.rows)
                batch.counts = (len(batch.rows) - quarantined, quarantined)
                batch.done = True
        finally:
            # After any error, no client may wait for ever.
            if len(batches) == 1 and not batches[0].done:
                batches[0].failure, batches[0].done = failure, True
            for batch in batches:
                if not batch.done:
                    self._commit([batch])

    def _write(self, rows: list[Row]) -> None:
        self._disk.check()
        now = datetime.fromtimestamp(self._clock(), UTC).replace(tzinfo=None)
        self._engine.append(rows, now)
