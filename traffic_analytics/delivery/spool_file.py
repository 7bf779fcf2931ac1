"""Hold the tables of the spool in one SQLite file within its limits; every SQLite error becomes SpoolUnavailable."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.runtime.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 4096
"""Size of a page of the file, in bytes."""
_ROOM = 64 * PAGE
"""Free room below which the spool is full, in bytes: a few seconds' worth of events."""
_RESERVE = 16 * 1024 * 1024
"""Room on the disk left for emptying the spool, in bytes: SQLite has to write in order to delete."""

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


class SpoolFile(SqliteFile):
    """The file of a spool; `room_to_work` is for the forwarder, which needs a little more room than the maximum."""

    def __init__(self, path: Path, *, sync: str, max_mb: int, room_to_work: bool) -> None:
        self._max_bytes = max_mb * 1024 * 1024
        max_pages = (self._max_bytes + (_ROOM if room_to_work else 0)) // PAGE
        super().__init__(
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

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Use this process's connection; other threads wait."""
        with self.lock:
            try:
                yield self.connection()
            except sqlite3.Error as error:
                raise SpoolUnavailable(str(error)) from error

    @contextlib.contextmanager
    def use_another(self) -> Iterator[sqlite3.Connection]:
        """Open another connection, so that a long read or a wait for a lock blocks no thread that appends."""
        try:
            with contextlib.closing(self.open_another()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise SpoolUnavailable(str(error)) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Use this process's connection for one transaction."""
        with self.use() as connection, committed(connection):
            yield connection

    def disk_has_room(self) -> bool:
        """Return whether more than the reserve of the disk is left."""
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:
            raise SpoolUnavailable(f"the disk cannot be used: {error.strerror}") from error
        return disk.f_bavail * disk.f_frsize >= _RESERVE

    def leave_reserve(self) -> None:
        """Raise SpoolUnavailable if only the reserve of the disk is left."""
        if not self.disk_has_room():
            raise SpoolUnavailable("the disk is full")

    def is_full(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file is near its maximum."""
        return self._max_bytes - bytes_used(connection) < _ROOM


def bytes_used(connection: sqlite3.Connection) -> int:
    """Return the size of the pages that hold data, in bytes."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return int((pages - free) * PAGE)


@contextlib.contextmanager
def committed(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is written within, or roll it back after an error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors SQLite has rolled back already, and raises another one here.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
