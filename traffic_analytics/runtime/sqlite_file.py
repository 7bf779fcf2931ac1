"""Check, open and share an SQLite file between processes; no connection is used across a fork."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import weakref
from typing import TYPE_CHECKING

from traffic_analytics.errors import DamagedFile, ForeignFile
from traffic_analytics.runtime.file_lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)

LARGE = 64 * 1024 * 1024
"""Size from which a file is checked while it is used, in bytes; up to it, the check takes about a second at most."""
TAKE_OVER = 30.0
"""Time between two attempts to become the process that checks a large file, in seconds."""
_HEADER = 100
_APPLICATION_ID = 0x7461_6E61  # "tana": identifies the files of this project
_inherited: list[sqlite3.Connection] = []
"""Connections of the parent process; without this reference they would be closed as garbage."""


class SqliteFile:
    """SQLite database in write-ahead mode, with one connection per process, closed when this object is garbage.

    Callers hold `lock` while they use `connection()`, so that threads take turns. SQLite itself separates processes; it
    waits up to `busy_timeout` seconds for another process's write.

    Damage is found by reading all pages: at once in a small file, by `chore` in a large one, which may take minutes.
    """

    def __init__(self, path: Path, schema: str, pragmas: Sequence[str] = (), *, busy_timeout: float) -> None:
        self.path = path
        self.lock = threading.Lock()
        self._schema = schema
        self._pragmas = pragmas
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._owner: tuple[int, int] | None = None
        self._is_checked = True
        self._check_lock = FileLock(path.with_name(path.name + ".check.lock"))
        self._close_connection: Callable[[], None] = lambda: None

    def prepare(self) -> None:
        """Create the file, or check that the existing one belongs to this project and is undamaged; close it again.

        Raises DamagedFile, which stops the start, so that no data is overwritten. The pages of a large file are left to
        `chore`.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.exists():
                self._check_size(self.path.stat().st_size)
            # Two processes that switch a new file to write-ahead mode at once fail with SQLITE_BUSY without waiting.
            with FileLock(self.path.with_name(self.path.name + ".lock")):
                self._check()
                with contextlib.closing(self._connect()) as connection:
                    self._create(connection)
        except sqlite3.DatabaseError as error:
            raise DamagedFile(
                f"{self.path} cannot be used as a database: {error}. It was left as it is; restore it from a backup, "
                "or move it away to start with a new one."
            ) from error
        except OSError as error:
            raise DamagedFile(f"{self.path} cannot be opened: {error.strerror}") from error

    def discard(self) -> None:
        """Delete the file and its log; for data that can be made again."""
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @property
    def chore(self) -> Callable[[], float] | None:
        """Check a large file in the background; None if `prepare` has checked all of it."""
        return None if self._is_checked else self._check_large

    def connection(self) -> sqlite3.Connection:
        """Return this process's connection; the caller holds `lock`.

        Raises sqlite3.OperationalError if the file is gone: a new one would not be the one that other processes have
        open.
        """
        owner = (os.getpid(), self._inode())
        if self._connection is None or self._owner != owner:
            self._close_connection()
            self._connection, self._owner = self._connect(), owner
            finalizer = weakref.finalize(self, _close_in_process, self._connection, owner[0])
            finalizer.atexit = False  # a thread may be using it
            self._close_connection = finalizer
        return self._connection

    def open_another(self) -> sqlite3.Connection:
        """Open another connection, which the caller closes."""
        self._inode()
        return self._connect()

    def _check_size(self, size: int) -> None:
        # SQLite treats a file without a complete header as a new one.
        if size == 0:
            _log.warning("%s is empty, and is treated as new", self.path, extra={"event": "EmptyFile"})
        elif size < _HEADER:
            raise sqlite3.DatabaseError(f"it has {size} bytes")

    def _inode(self) -> int:
        try:
            return self.path.stat().st_ino
        except OSError:
            raise sqlite3.OperationalError(f"{self.path.name} is gone") from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in self._pragmas:
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _check(self) -> None:
        """Check that the file belongs to this project and is undamaged, without changing a byte of it."""
        log = self.path.with_name(self.path.name + "-wal")
        log_in_use = log.exists() and log.stat().st_size > 0
        if not self.path.exists() or self.path.stat().st_size == 0:
            if log_in_use:  # SQLite would delete it
                raise DamagedFile(
                    f"{self.path} is {'empty' if self.path.exists() else 'gone'}, but its {log.name} is not. Restore "
                    "both from a backup, or move both away to start with a new file."
                )
            return
        # Closing a writable connection would write the log into the file, even into a damaged one.
        mode = "ro" if log_in_use else "rw"
        with contextlib.closing(
            sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=self._busy_timeout)
        ) as connection:
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
                return
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise ForeignFile(f"{self.path} is the database of another program; name another file or move it away.")
            self._is_checked = self.path.stat().st_size < LARGE
            if self._is_checked:
                self._check_pages(connection)

    def _check_large(self) -> float:
        """Check a large file once, in one process; return the seconds until the next call. Raises DamagedFile."""
        # The lock is held for the life of the process, so that no other one repeats the check.
        if not self._is_checked and self._check_lock.try_acquire():
            with contextlib.closing(self.open_another()) as connection:
                self._check_pages(connection)
            self._is_checked = True
            _log.info("%s is undamaged", self.path, extra={"event": "FileChecked"})
        return TAKE_OVER

    def _check_pages(self, connection: sqlite3.Connection) -> None:
        try:
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            damage = str(error)
        if damage != "ok":
            raise DamagedFile(
                f"{self.path} is damaged ({' '.join(damage.split())}). Restore it from a backup, or move it away to "
                "start with a new one."
            )

    def _create(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            self.path.chmod(0o600)  # SQLite makes its other files with the same mode
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(self._schema)


def _close_in_process(connection: sqlite3.Connection, process: int) -> None:
    """Close a connection in the process that opened it. SQLite forbids any use after a fork, closing included."""
    if process == os.getpid():
        connection.close()
    else:
        _inherited.append(connection)
