"""One random salt per site and UTC day, the same for every process, and gone after the day."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.single_flight import SingleFlight
from traffic_analytics.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from traffic_analytics.file_lock import FileLock

_log = logging.getLogger(__name__)

CACHED_SITES = 20_000
PATIENCE = 5.0
"""Seconds that a thread waits for another that asks for the same salt; no store takes as long."""
GRACE = timedelta(minutes=5)
"""How long after midnight yesterday's salts are kept, for hits that arrived before it."""


SWEEP_EVERY = 20.0
"""Seconds between looks at the clock."""


class SaltStore(Protocol):
    """Where salts are kept. Every method raises SaltUnavailable if the store cannot be used."""

    def prepare(self) -> None:
        """Create the store or check the one that is there; raises DamagedFile."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day; whoever asks first makes it, everybody else gets the same."""

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days beyond recovery and say how many there were."""

    def check(self) -> None:
        """Find out whether the store can be used."""


class MemorySalts:
    """Salts of one process, for tests and single processes: a restart renames all visitors of the day."""

    def __init__(self) -> None:
        self._salts: dict[tuple[str, date], str] = {}
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Need nothing."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day."""
        with self._lock:
            return self._salts.setdefault((site_uuid, day), new_salt())

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days."""
        with self._lock:
            past = [key for key in self._salts if key[1] < day]
            for key in past:
                del self._salts[key]
        return len(past)

    def check(self) -> None:
        """Be usable at all times."""


class SqliteSalts:
    """Salts of all processes of one machine, in one file.

    A deleted salt is overwritten (secure_delete) and the write-ahead log is cut, so that no copy stays in either file.
    After a power cut the last salts may be missing, never wrong: their sites' visitors count twice on that day.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(
            path,
            "CREATE TABLE IF NOT EXISTS salts (day TEXT NOT NULL, site_uuid TEXT NOT NULL, salt TEXT NOT NULL,"
            " PRIMARY KEY (day, site_uuid)) WITHOUT ROWID, STRICT",
            ["secure_delete = ON", "synchronous = NORMAL"],
            busy_timeout=2.0,
        )

    def prepare(self) -> None:
        """Create the file or check the one that is there; raises DamagedFile."""
        self._file.prepare()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day, made by whichever process came first."""
        key = (day.isoformat(), site_uuid)
        try:
            with self._file.lock:
                connection = self._file.connection()
                row = connection.execute("SELECT salt FROM salts WHERE day = ? AND site_uuid = ?", key).fetchone()
                if row is None:
                    connection.execute("INSERT OR IGNORE INTO salts VALUES (?, ?, ?)", (*key, new_salt()))
                    row = connection.execute("SELECT salt FROM salts WHERE day = ? AND site_uuid = ?", key).fetchone()
        except sqlite3.Error as error:
            raise SaltUnavailable(str(error)) from error
        return str(row[0])

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days beyond recovery and say how many there were."""
        try:
            with self._file.lock:
                connection = self._file.connection()
                count = connection.execute("DELETE FROM salts WHERE day < ?", (day.isoformat(),)).rowcount
                # Deleted salts stand in the log until it is cut, which waits for other processes' reads to end.
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise SaltUnavailable(str(error)) from error
        if busy:
            raise SaltUnavailable("the write-ahead log is in use and still holds deleted salts")
        return count

    def check(self) -> None:
        """Find out whether the file can be read and written."""
        try:
            with self._file.lock:
                connection = self._file.connection()
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise SaltUnavailable(str(error)) from error


class Salts:
    """A store behind an in-process cache, so that most hits touch no file and no network.

    A cached salt serves for its whole day, also while the store is away; the Sweeper drops it after the day.
    """

    def __init__(self, store: SaltStore) -> None:
        self._store = store
        self._cache: LRUCache[tuple[str, date], str] = LRUCache(CACHED_SITES)
        self._lock = threading.Lock()
        self._flights: SingleFlight[str] = SingleFlight()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day. Raises SaltUnavailable."""
        key = (site_uuid, day)
        with self._lock:
            salt = self._cache.get(key)
        if salt is None:
            try:
                salt, _ = self._flights.share(key, lambda: self._ask(key), PATIENCE)
            except TimeoutError:
                raise SaltUnavailable("another thread has asked for it, in vain so far") from None
        return salt

    def forget_cached_before(self, day: date) -> None:
        """Drop the salts of earlier days from this process's memory."""
        with self._lock:
            for key in [key for key in self._cache if key[1] < day]:
                del self._cache[key]

    def forget_before(self, day: date) -> int:
        """Delete the salts of earlier days from the store. Raises SaltUnavailable."""
        return self._store.forget_before(day)

    def check(self) -> None:
        """Find out whether the store can be used. Raises SaltUnavailable."""
        self._store.check()

    def _ask(self, key: tuple[str, date]) -> str:
        with self._lock:
            salt = self._cache.get(key)  # another flight may have landed since the caller looked
        if salt is None:
            salt = self._store.get_or_create(*key)
            with self._lock:
                self._cache[key] = salt
        return salt


class Sweeper:
    """Forgets the salts of past days soon after midnight UTC, whether hits arrive or not.

    Every process forgets what it has cached; the one that holds the lock deletes from the store, if that `deletes` at
    all. A sweep that failed is tried again at the next tick. Of several machines that share a store each sweeps it:
    whoever comes late finds nothing.
    """

    def __init__(
        self, salts: Salts, clock: Callable[[], datetime], lock: FileLock | None, *, deletes: bool = True
    ) -> None:
        self._salts = salts
        self._clock = clock
        self._lock = lock
        self._deletes = deletes
        self._swept: date | None = None

    def tick(self) -> float:
        """Sweep if a new day has begun; returns how many seconds may pass until the next call."""
        day = (self._clock().astimezone(UTC) - GRACE).date()
        if day != self._swept:
            self._sweep(day)
        return SWEEP_EVERY

    def _sweep(self, day: date) -> None:
        self._salts.forget_cached_before(day)
        if not self._deletes:
            self._swept = day
            return
        if self._lock is not None and not self._lock.try_acquire():
            return
        try:
            count = self._salts.forget_before(day)
        except SaltUnavailable as error:
            _log.error("past salts could not be deleted: %s", error, extra={"event": "SaltCleanupFailed"})
            return
        self._swept = day
        if count:
            _log.info("deleted %d salts of past days", count, extra={"event": "SaltCleanupCompleted", "count": count})


def new_salt() -> str:
    """Make a salt: 32 random bytes in hex."""
    return secrets.token_hex(32)


def key_of(site_uuid: str, day: date) -> str:
    """Name a salt where several services keep it; Node services look for it under the same name."""
    return f"salt:{day.isoformat()}:{site_uuid}"


def salt_of(stored: object) -> str:
    """Return what a store holds as a salt. Raises SaltUnavailable rather than to name visitors by something else."""
    if not isinstance(stored, str) or not stored:
        raise SaltUnavailable("what the store holds is no salt", store_answered=True)
    return stored
