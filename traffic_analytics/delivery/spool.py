"""Store accepted events on disk until the target has them.

Invariants:

- Durable: an event is settled once it is committed, and only then is a hit answered 202. If any or all processes
  are killed, no committed event is lost. With `sync="full"` (the default) the commit has reached the disk, so that a
  power cut loses none either. With `sync="normal"` a power cut may lose the last moments before it, but never the file.
- At least once: an event leaves the spool only when it is acknowledged, which is after the target has accepted it, or
  when it becomes a dead letter, which an operator can requeue. A process can die between the target's reply and the
  acknowledgement; then the event is sent again, and its `payload.event_id` identifies the repeat.
- One holder: a claim leases events, and no other claim contains them until it is released or its lease runs out. Leases
  are measured by the monotonic clock, which all processes of a machine share and no change of the time of day moves.
- Order: events of one data source are claimed in the order in which they were committed.
- No address: events are enriched before they are stored.
- Bounded: the file never exceeds its maximum. When it is full, or only a reserve of the disk is left, new events
  fail with SpoolUnavailable and stored events stay. Acknowledging events, which needs the reserve, frees room again.
"""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, NamedTuple

from traffic_analytics.delivery.spool_file import PAGE, SpoolFile, bytes_used, committed
from traffic_analytics.delivery.target import NO_DATA_SOURCE
from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.runtime.joiner import Joiner

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from traffic_analytics.runtime.joiner import Pending

_SHRINK_FROM, _SHRINK_BY = 512, 2048
"""Number of free pages from which on the file is shortened, and pages removed at a time."""

# An id is the microsecond of its event, or one more than the highest id of all events and dead letters. So ids grow and
# none is used twice, even if the tables become empty in between. AUTOINCREMENT would write one more page a commit.
_NEXT_ID = (
    "SELECT max(:us, coalesce((SELECT max(id) FROM events), 0) + 1, coalesce((SELECT max(id) FROM set_aside), 0) + 1)"
)
_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?)"
_NEXT_SOURCE = "SELECT min(data_source) FROM events WHERE data_source > ?"
_OLDEST = (
    "SELECT id FROM events WHERE data_source = ? AND NOT EXISTS (SELECT 1 FROM claims"
    " WHERE claims.data_source = events.data_source AND events.id BETWEEN claims.first AND claims.last)"
    " ORDER BY id LIMIT 1"
)


class SpooledEvent(NamedTuple):
    """Event of a claim."""

    id: int
    event: bytes


class Claim(NamedTuple):
    """Events of one data source, leased to one holder; `more` is true if there are later ones."""

    holder: str
    data_source: str
    events: list[SpooledEvent]
    more: bool


class StoredEvent(NamedTuple):
    """An event as an operator sees it; `reason` is empty unless it is a dead letter."""

    id: int
    data_source: str
    received: float
    event: bytes
    reason: str


class Backlog(NamedTuple):
    """Counts of waiting events and dead letters; `oldest` is the first arrival in Unix seconds."""

    waiting: int
    oldest: float | None
    dead_letters: int
    bytes_used: int


class Spool:
    """The queue of events on one machine, shared by its processes and threads."""

    def __init__(
        self, path: Path, *, sync: str, max_mb: int, clock: Callable[[], float], room_to_work: bool = False
    ) -> None:
        """Describe a spool; `room_to_work` is for the forwarder, which needs a little more room than the maximum."""
        self._clock = clock
        self._appends: Joiner[tuple[str, Sequence[bytes]], None] = Joiner(self._insert)
        self._file = SpoolFile(path, sync=sync, max_mb=max_mb, room_to_work=room_to_work)

    def prepare(self) -> None:
        """Create the file or check the one that is there; raises DamagedFile."""
        self._file.prepare()

    @property
    def chore(self) -> Callable[[], float] | None:
        """Check a large file in the background; None if `prepare` has checked all of it."""
        return self._file.chore

    def submit(self, data_source: str, event: bytes) -> Pending[tuple[str, Sequence[bytes]], None]:
        """Begin to store an event durably; the outcome is None, or SpoolUnavailable.

        What is submitted during a commit is committed together in the next one: the cost is in the commit, not in the
        event.
        """
        return self._appends.submit((data_source, (event,)))

    def append(self, data_source: str, *events: bytes) -> None:
        """Store events durably, in one commit. Raises SpoolUnavailable."""
        error = self._appends.submit((data_source, events)).wait()
        if error is not None:
            raise error

    def claim(
        self, limit: int, max_bytes: int, now: float, lease: float = 60.0, without: frozenset[str] = frozenset()
    ) -> Claim | None:
        """Lease up to `limit` of the oldest unclaimed events, all of one data source that is not in `without`.

        `now` is monotonic, `lease` in seconds. Claimed events stay in the spool until they are acknowledged; if the
        holder dies, they are claimed again after the lease. An event larger than `max_bytes` is claimed alone.
        """
        with self._file.transaction() as connection:
            # A lease that ends later than any can was made before a restart of the machine.
            connection.execute("DELETE FROM claims WHERE until <= ? OR until > ?", (now, now + 10 * lease))
            oldest = min((each for each in _first_unclaimed(connection) if each[1] not in without), default=None)
            if oldest is None:
                return None
            first, data_source = oldest
            next_claimed = connection.execute(
                "SELECT min(first) FROM claims WHERE data_source = ? AND first > ?", (data_source, first)
            ).fetchone()[0]
            last, size = first, 0
            for each, length in connection.execute(
                "SELECT id, length(event) FROM events WHERE data_source = ? AND id >= ? AND (? IS NULL OR id < ?)"
                " ORDER BY id LIMIT ?",
                (data_source, first, next_claimed, next_claimed, limit),
            ):
                size += length + 1
                if each != first and size > max_bytes:
                    break
                last = each
            more = connection.execute("SELECT max(id) FROM events").fetchone()[0] > last
            holder = uuid.uuid4().hex
            connection.execute(
                "INSERT INTO claims VALUES (?, ?, ?, ?, ?)", (holder, data_source, first, last, now + lease)
            )
        with self._file.use() as connection:  # claimed already: threads that append need not wait for this read
            rows = connection.execute(
                "SELECT id, event FROM events WHERE data_source = ? AND id BETWEEN ? AND ? ORDER BY id",
                (data_source, first, last),
            ).fetchall()
        return Claim(holder, data_source, [SpooledEvent(*row) for row in rows], more)

    def renew(self, claim: Claim, now: float, lease: float = 60.0) -> None:
        """Extend a claim by another lease."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE claims SET until = ? WHERE holder = ?", (now + lease, claim.holder))

    def acknowledge(self, events: Sequence[SpooledEvent], now: float) -> None:
        """Delete events that the target has accepted; `now` is monotonic."""
        with self._file.transaction() as connection:
            connection.executemany(  # all events have one data source
                "INSERT OR REPLACE INTO marks SELECT data_source, ? FROM events WHERE id = ?",
                [(now, each.id) for each in events[:1]],
            )
            connection.executemany("DELETE FROM events WHERE id = ?", [(each.id,) for each in events])

    def release(self, claim: Claim) -> None:
        """End a claim; its events that are left can be claimed again."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM claims WHERE holder = ?", (claim.holder,))

    def release_all(self) -> None:
        """End every claim; the caller has made sure that no holder lives."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM claims")
            connection.execute("DELETE FROM marks")

    def dead_letter(self, event: SpooledEvent, reason: str) -> None:
        """Move a claimed event to the dead letters, where an operator finds it with the reason."""
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO set_aside SELECT id, data_source, received, event, ? FROM events WHERE id = ?",
                (reason, event.id),
            )
            connection.execute("DELETE FROM events WHERE id = ?", (event.id,))

    def add_dead_letter(self, data_source: str, event: bytes, reason: str) -> None:
        """Store a dead letter that was no event of the spool, such as a Pub/Sub message. Raises SpoolUnavailable."""
        now = self._clock()
        with self._file.transaction() as connection:
            self._file.leave_reserve()
            connection.execute(
                f"INSERT INTO set_aside {_NEXT_ID}, :data_source, :received, :event, :reason",
                {"us": int(now * 1e6), "data_source": data_source, "received": now, "event": event, "reason": reason},
            )

    def delivered_since(self, data_source: str, moment: float) -> bool:
        """Return whether an event of a data source was acknowledged after `moment`, which is monotonic."""
        with self._file.use_another() as connection:
            row = connection.execute("SELECT delivered FROM marks WHERE data_source = ?", (data_source,)).fetchone()
        return row is not None and float(row[0]) > moment

    def backlog(self) -> Backlog:
        """Count events and dead letters; reads the whole file, but blocks no other thread."""
        with self._file.use_another() as connection:
            waiting = connection.execute("SELECT count(*) FROM events").fetchone()[0]
            oldest = connection.execute("SELECT received FROM events ORDER BY id LIMIT 1").fetchone()
            dead_letters = connection.execute("SELECT count(*) FROM set_aside").fetchone()[0]
            used = bytes_used(connection)
        return Backlog(waiting, oldest[0] if oldest else None, dead_letters, used)

    def shrink(self) -> None:
        """Shorten the file a little, if much of it is free or the disk is short of room."""
        with self._file.use() as connection:
            free_pages = _SHRINK_FROM if self._file.disk_has_room() else 0
            if connection.execute("PRAGMA freelist_count").fetchone()[0] > free_pages:
                # As a script: `execute` would stop after the first page.
                connection.executescript(f"PRAGMA incremental_vacuum({_SHRINK_BY})")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # only then is the file shorter

    def check(self) -> None:
        """Check that an event can be stored, by storing one. Raises SpoolUnavailable."""
        with self._file.use_another() as connection, committed(connection):
            self._file.leave_reserve()
            if self._file.is_full(connection):
                raise SpoolUnavailable("the spool is full")
            # Only a write finds out about a quota or a disk that cannot be written.
            connection.execute("INSERT INTO events VALUES (0, '', 0, zeroblob(?))", (PAGE,))
            connection.execute("DELETE FROM events WHERE id = 0")

    def list_dead_letters(self) -> Iterator[StoredEvent]:
        """Iterate over the dead letters, oldest first."""
        return self._pages("SELECT id, data_source, received, event, reason FROM set_aside WHERE id > ?")

    def list_waiting(self) -> Iterator[StoredEvent]:
        """Iterate over the waiting events, oldest first."""
        return self._pages("SELECT id, data_source, received, event, '' FROM events WHERE id > ?")

    def requeue(self, ids: Sequence[int] | None) -> int:
        """Move dead letters (None: all) back to the waiting events, and return their number.

        A dead letter without a data source is no event, and stays.
        """
        chosen = [each.id for each in self.list_dead_letters()] if ids is None else list(ids)
        with self._file.transaction() as connection:
            count = 0
            for each in chosen:
                row = connection.execute(
                    "DELETE FROM set_aside WHERE id = ? AND data_source <> ? RETURNING data_source, received, event",
                    (each, NO_DATA_SOURCE),
                ).fetchone()
                if row is not None:
                    (first,) = connection.execute(_NEXT_ID, {"us": each}).fetchone()
                    connection.execute(_INSERT, (first, *row))
                    count += 1
        return count

    def purge_dead_letters(self) -> int:
        """Delete all dead letters, and return their number."""
        with self._file.transaction() as connection:
            return connection.execute("DELETE FROM set_aside").rowcount

    def _insert(self, items: list[tuple[str, Sequence[bytes]]]) -> list[None]:
        """Commit all items together. Raises SpoolUnavailable."""
        now = self._clock()
        self._file.leave_reserve()
        with self._file.transaction() as connection:
            (first,) = connection.execute(_NEXT_ID, {"us": int(now * 1e6)}).fetchone()
            ids = itertools.count(first)
            connection.executemany(
                _INSERT, [(next(ids), data_source, now, event) for data_source, events in items for event in events]
            )
        return [None] * len(items)

    def _pages(self, query: str) -> Iterator[StoredEvent]:
        last = 0
        while True:
            with self._file.use_another() as connection:
                rows = connection.execute(f"{query} ORDER BY id LIMIT 500", (last,)).fetchall()
            if not rows:
                return
            yield from map(StoredEvent._make, rows)
            last = rows[-1][0]


def _first_unclaimed(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Yield the id of the oldest unclaimed event of each data source; reads one index entry for each."""
    data_source = ""
    while (row := connection.execute(_NEXT_SOURCE, (data_source,)).fetchone())[0] is not None:
        data_source = row[0]
        oldest = connection.execute(_OLDEST, (data_source,)).fetchone()
        if oldest is not None:
            yield oldest[0], data_source
