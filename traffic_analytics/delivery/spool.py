"""The spool keeps accepted events on disk until Tinybird has them.

Invariants:

- A 202 is a promise: `append` returns once the event is committed. The kill of any process, or of all, loses nothing
  that was committed. With `sync="full"` (the default) the commit has reached the disk, so a power cut loses nothing
  either; with `sync="normal"` it may lose the last moments before the cut, never more and never the file.
- At least once: an event leaves the spool only when it is acknowledged, which is after Tinybird said that it has it, or
  when it is set aside with a reason, from where an operator can put it back. Between Tinybird's word and the
  acknowledgement a process can die; then the event is sent again, and `payload.event_id` is what tells repeats apart.
- One holder: a claim leases events; nobody else is given them until it is released or its lease runs out. Leases are
  measured by the monotonic clock, which all processes of a machine share and no change of the time of day moves.
- Order: events are claimed in the order in which they were committed, as far as they go to one data source.
- No address: an event is enriched before it comes here.
- Bounded: the file never grows beyond its maximum. When it is full, or the disk is but for a reserve, `append` raises
  SpoolUnavailable and what is in the file stays; room comes back as events are acknowledged, for which the reserve is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from traffic_analytics.delivery.target import NO_DATA_SOURCE
from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.runtime.group_commit import CommitFailed, GroupCommit
from traffic_analytics.runtime.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_PAGE = 4096
_ROOM = 64 * _PAGE
"""Bytes below which the spool counts as full: a moment's worth of events."""

_RESERVE = 16 * 1024 * 1024
"""Bytes of the disk that are left to who empties the spool: to let go of events, SQLite has to write, too."""

_SHRINK_FROM, _SHRINK_BY = 512, 2048
"""Free pages from which room is given back to the disk, and how many at a time."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, data_source TEXT NOT NULL, received REAL NOT NULL, event BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS events_by_source ON events (data_source, id);
CREATE TABLE IF NOT EXISTS claims (
    holder TEXT PRIMARY KEY, data_source TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, until REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS set_aside (
    id INTEGER PRIMARY KEY, data_source TEXT NOT NULL, received REAL NOT NULL, event BLOB NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS marks (data_source TEXT PRIMARY KEY, delivered REAL NOT NULL) STRICT;
"""

# An id is the microsecond of its event, or the next number after the last id of those that wait or were set aside: ids
# grow, and none is used twice, though the table may become empty in between. (AUTOINCREMENT says the same for one more
# page written with each commit.)
_NEXT_ID = (
    "SELECT max(:us, coalesce((SELECT max(id) FROM events), 0) + 1, coalesce((SELECT max(id) FROM set_aside), 0) + 1)"
)
_INSERT = f"INSERT INTO events {_NEXT_ID}, :data_source, :received, :event"
_NEXT_SOURCE = "SELECT min(data_source) FROM events WHERE data_source > ?"
_OLDEST = (
    "SELECT id FROM events WHERE data_source = ? AND NOT EXISTS (SELECT 1 FROM claims"
    " WHERE claims.data_source = events.data_source AND events.id BETWEEN claims.first AND claims.last)"
    " ORDER BY id LIMIT 1"
)


class SpooledEvent(NamedTuple):
    """One event in the spool."""

    id: int
    event: bytes


class Claim(NamedTuple):
    """Events of one data source, leased to one holder; `more` says whether there are later ones."""

    holder: str
    data_source: str
    events: list[SpooledEvent]
    more: bool


class StoredEvent(NamedTuple):
    """An event that will not be sent again by itself, and why."""

    id: int
    data_source: str
    received: float
    event: bytes
    reason: str


class Backlog(NamedTuple):
    """What waits: how many events, since when the oldest (Unix seconds), and how many were set aside."""

    waiting: int
    oldest: float | None
    dead_letters: int
    bytes_used: int


class Spool:
    """The queue of one machine, shared by its processes and threads."""

    def __init__(
        self, path: Path, *, sync: str, max_mb: int, clock: Callable[[], float], room_to_work: bool = False
    ) -> None:
        """Describe a spool; `room_to_work` is for who empties it, which takes a little room even when it is full."""
        self._clock = clock
        self._directory = path.parent
        self._max_bytes = max_mb * 1024 * 1024
        max_pages = self._max_bytes // _PAGE + (_ROOM // _PAGE if room_to_work else 0)
        self._appends: GroupCommit[dict[str, Any], sqlite3.Error | None] = GroupCommit(
            self._insert, is_failure=lambda error: error is not None
        )
        self._file = SqliteFile(
            path,
            _SCHEMA,
            [
                f"synchronous = {'FULL' if sync == 'full' else 'NORMAL'}",
                "auto_vacuum = INCREMENTAL",
                f"max_page_count = {max_pages}",
                "journal_size_limit = 16777216",
            ],
            busy_timeout=3.0,
        )

    def prepare(self) -> None:
        """Create the file or check the one that is there; raises DamagedFile."""
        self._file.prepare()

    def append(self, data_source: str, event: bytes) -> None:
        """Keep an event; returns when it is safe. Raises SpoolUnavailable.

        Threads that come while another commits wait for it, and then one of them commits for all: what costs is the
        commit, not the event.
        """
        now = self._clock()
        row = {"us": int(now * 1e6), "data_source": data_source, "received": now, "event": event}
        try:
            error = self._appends.add(row)
        except CommitFailed as broken:
            raise SpoolUnavailable(str(broken)) from None
        if error is not None:
            raise SpoolUnavailable(str(error)) from error

    def claim(
        self, limit: int, max_bytes: int, now: float, lease: float = 60.0, without: frozenset[str] = frozenset()
    ) -> Claim | None:
        """Lease up to `limit` of the oldest events that nobody else holds, all of one data source not in `without`.

        `now` is monotonic, `lease` in seconds. Claimed events stay in the spool until acknowledged; if the holder dies,
        its lease runs out and they are claimed again. An event larger than `max_bytes` is claimed alone.
        """
        with self._transaction() as connection:
            # A lease further away than any lease goes was made before the machine was restarted.
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
        with self._use() as connection:  # they are ours: nobody who appends need wait while we read them
            rows = connection.execute(
                "SELECT id, event FROM events WHERE data_source = ? AND id BETWEEN ? AND ? ORDER BY id",
                (data_source, first, last),
            ).fetchall()
        return Claim(holder, data_source, [SpooledEvent(*row) for row in rows], more)

    def renew(self, claim: Claim, now: float, lease: float = 60.0) -> None:
        """Hold on to a claim for another lease."""
        with self._transaction() as connection:
            connection.execute("UPDATE claims SET until = ? WHERE holder = ?", (now + lease, claim.holder))

    def acknowledge(self, events: Sequence[SpooledEvent], now: float) -> None:
        """Let go of events that Tinybird has; `now` is monotonic."""
        with self._transaction() as connection:
            connection.executemany(  # one event stands for all: they go to one data source
                "INSERT OR REPLACE INTO marks SELECT data_source, ? FROM events WHERE id = ?",
                [(now, each.id) for each in events[:1]],
            )
            connection.executemany("DELETE FROM events WHERE id = ?", [(each.id,) for each in events])

    def release(self, claim: Claim) -> None:
        """Let others claim what is left of a claim."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM claims WHERE holder = ?", (claim.holder,))

    def release_all(self) -> None:
        """End every claim; only for who knows that no holder lives."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM claims")
            connection.execute("DELETE FROM marks")

    def dead_letter(self, event: SpooledEvent, reason: str) -> None:
        """Take an event out of the way, with the reason, for an operator to look at."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO set_aside SELECT id, data_source, received, event, ? FROM events WHERE id = ?",
                (reason, event.id),
            )
            connection.execute("DELETE FROM events WHERE id = ?", (event.id,))

    def add_dead_letter(self, data_source: str, event: bytes, reason: str) -> None:
        """Set an event aside that never waited here, such as one that came by Pub/Sub. Raises SpoolUnavailable."""
        now = self._clock()
        with self._transaction() as connection:
            self._leave_reserve()
            connection.execute(
                f"INSERT INTO set_aside {_NEXT_ID}, :data_source, :received, :event, :reason",
                {"us": int(now * 1e6), "data_source": data_source, "received": now, "event": event, "reason": reason},
            )

    def delivered_since(self, data_source: str, moment: float) -> bool:
        """Whether anything for a data source was acknowledged after a moment of the monotonic clock."""
        with self._own_connection() as connection:
            row = connection.execute("SELECT delivered FROM marks WHERE data_source = ?", (data_source,)).fetchone()
        return row is not None and float(row[0]) > moment

    def backlog(self) -> Backlog:
        """Count what waits; reads the whole file, but nobody waits for it."""
        with self._own_connection() as connection:
            waiting = connection.execute("SELECT count(*) FROM events").fetchone()[0]
            oldest = connection.execute("SELECT received FROM events ORDER BY id LIMIT 1").fetchone()
            dead_letters = connection.execute("SELECT count(*) FROM set_aside").fetchone()[0]
            used = self._bytes_used(connection)
        return Backlog(waiting, oldest[0] if oldest else None, dead_letters, used)

    def shrink(self) -> None:
        """Give free room back to the disk, a little at a time: where it is much, or the disk is short of it."""
        with self._use() as connection:
            keep = _SHRINK_FROM if self._disk_has_room() else 0
            if connection.execute("PRAGMA freelist_count").fetchone()[0] > keep:
                # As a script: `execute` would stop after the first page.
                connection.executescript(f"PRAGMA incremental_vacuum({_SHRINK_BY})")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # only then is the file shorter

    def check(self) -> None:
        """Find out whether an event could be kept now. Raises SpoolUnavailable."""
        with self._own_connection() as connection, _transaction(connection):
            self._leave_reserve()
            if self._max_bytes - self._bytes_used(connection) < _ROOM:
                raise SpoolUnavailable("the spool is full")
            # A limit or a disk that cannot be written shows only when something is written.
            connection.execute("INSERT INTO events VALUES (0, '', 0, zeroblob(?))", (_PAGE,))
            connection.execute("DELETE FROM events WHERE id = 0")

    def list_dead_letters(self) -> Iterator[StoredEvent]:
        """Go through what was set aside, oldest first."""
        return self._pages("SELECT id, data_source, received, event, reason FROM set_aside WHERE id > ?")

    def list_waiting(self) -> Iterator[StoredEvent]:
        """Go through what waits, oldest first; the reason is empty."""
        return self._pages("SELECT id, data_source, received, event, '' FROM events WHERE id > ?")

    def requeue(self, ids: Sequence[int] | None) -> int:
        """StallDetector events again that were set aside (None: all of them); returns how many.

        Of what a worker has kept aside some are no events; they stay.
        """
        chosen = [each.id for each in self.list_dead_letters()] if ids is None else list(ids)
        with self._transaction() as connection:
            count = 0
            for each in chosen:
                row = connection.execute(
                    "DELETE FROM set_aside WHERE id = ? AND data_source <> ? RETURNING data_source, received, event",
                    (each, NO_DATA_SOURCE),
                ).fetchone()
                if row is not None:
                    data_source, received, event = row
                    connection.execute(
                        _INSERT, {"us": each, "data_source": data_source, "received": received, "event": event}
                    )
                    count += 1
        return count

    def purge_dead_letters(self) -> int:
        """Delete what was set aside; returns how many."""
        with self._transaction() as connection:
            return connection.execute("DELETE FROM set_aside").rowcount

    def close(self) -> None:
        """Close the file in this process."""
        self._file.close()

    def _insert(self, rows: list[dict[str, Any]]) -> sqlite3.Error | None:
        try:
            self._leave_reserve()
            with self._file.lock, _transaction(connection := self._file.connection()):
                connection.executemany(_INSERT, rows)
        except sqlite3.Error as error:
            return error
        return None

    def _disk_has_room(self) -> bool:
        try:
            disk = os.statvfs(self._directory)
        except OSError as error:
            raise sqlite3.OperationalError(f"the disk cannot be used: {error.strerror}") from error
        return disk.f_bavail * disk.f_frsize >= _RESERVE

    def _leave_reserve(self) -> None:
        if not self._disk_has_room():
            raise sqlite3.OperationalError("the disk is full")

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        with self._file.lock:
            try:
                yield self._file.connection()
            except sqlite3.Error as error:
                raise SpoolUnavailable(str(error)) from error

    @contextlib.contextmanager
    def _own_connection(self) -> Iterator[sqlite3.Connection]:
        """Open a connection of its own: a long read, or a wait for a lock, should hold up no thread that appends."""
        try:
            with contextlib.closing(self._file.open_another()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise SpoolUnavailable(str(error)) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._use() as connection, _transaction(connection):
            yield connection

    def _pages(self, query: str) -> Iterator[StoredEvent]:
        last = 0
        while True:
            with self._own_connection() as connection:
                rows = connection.execute(f"{query} ORDER BY id LIMIT 500", (last,)).fetchall()
            if not rows:
                return
            yield from map(StoredEvent._make, rows)
            last = rows[-1][0]

    def _bytes_used(self, connection: sqlite3.Connection) -> int:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        return int((pages - free) * _PAGE)


def _first_unclaimed(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Find the oldest unclaimed event of each data source, by leaps through the index."""
    data_source = ""
    while (row := connection.execute(_NEXT_SOURCE, (data_source,)).fetchone())[0] is not None:
        data_source = row[0]
        oldest = connection.execute(_OLDEST, (data_source,)).fetchone()
        if oldest is not None:
            yield oldest[0], data_source


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has already rolled back after some errors, and says so with another one.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
