"""Cache responses in memory and in a file that all processes of a machine share.

Invariants:
- Entries are found by a hash only; neither a token nor a query can be read from the file.
- Memory and file are bounded in bytes; the oldest entries are removed first. No entry outlives its `until`, not even if
  the clock is set back.
- One process at a time holds a claim. A claim expires, so a killed process delays no other for long.
- The file only saves queries. If it cannot be used, each process caches in memory alone and logs an error. A damaged
  file is deleted at the start; that of another program is not.

Several workers are the default. Without the file each would send its own queries: eight workers, eight times as many.
Memory saves reading the file again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, NamedTuple

from cachetools import TLRUCache

from traffic_analytics.errors import DamagedFile, ForeignFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.runtime.sqlite_file import SqliteFile

_log = logging.getLogger(__name__)

LARGEST = 1024 * 1024
"""Size of the largest response that is cached, in bytes; Ghost's are some kilobytes."""
MEMORY_BYTES = 8 * LARGEST
"""Size of the cache in memory, in bytes."""
FILE_BYTES = 32 * LARGEST
"""Size of the cache in the file, in bytes."""
_OVERHEAD = 4096
"""Size of an entry without its body, in bytes, rounded up."""
_CLOCK_SKEW = 5.0
"""Largest difference between clocks, in seconds; an entry from further in the future precedes a clock set back."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (
  key BLOB PRIMARY KEY, made_at REAL NOT NULL, until REAL NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL
) STRICT
"""
PRAGMAS = ("synchronous = NORMAL",)


class Entry(NamedTuple):
    """A response, a pause or a claim, with the times at which it was stored and expires (seconds since 1970)."""

    made_at: float
    until: float
    status: int = 0
    body: bytes = b""


class AnswerCache:
    """Store entries in this process's memory and, if there is a file, for all processes that share it."""

    def __init__(self, file: SqliteFile | None, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._memory: TLRUCache[bytes, Entry] = TLRUCache(
            MEMORY_BYTES, ttu=lambda _key, entry, _now: entry.until, timer=clock, getsizeof=_size
        )
        self._is_file_usable = True

    def prepare(self) -> None:
        """Create the file, or check an existing one; a damaged one is replaced, and no file stops the start."""
        if self._file is None:
            return
        try:
            self._prepare(self._file)
        except (DamagedFile, OSError) as error:
            self._log_unusable(error)
            self._file = None

    def _prepare(self, file: SqliteFile) -> None:
        try:
            file.prepare()
        except ForeignFile:
            raise
        except DamagedFile as error:
            file.discard()
            file.prepare()
            _log.warning(
                "the cache of statistics was damaged, and begins anew: %s", error, extra={"event": "CacheDiscarded"}
            )

    def get(self, key: bytes, newer_than: float = float("-inf")) -> Entry | None:
        """Return the newest entry; read the file only if memory has none that is newer than `newer_than`."""
        now = self._clock()
        with self._lock:
            entry = self._memory.get(key)
        if entry is not None and newer_than < entry.made_at <= now + _CLOCK_SKEW:
            return entry
        if self._file is not None:
            try:
                entry = self._read(self._file, key)
            except sqlite3.Error as error:
                self._log_unusable(error)
        if entry is None or not entry.made_at - _CLOCK_SKEW <= now < entry.until:
            with self._lock:
                self._memory.pop(key, None)
            return None
        self._remember(key, entry)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Store an entry in place of an earlier one, unless it is too large."""
        if len(entry.body) > LARGEST:
            return
        self._remember(key, entry)
        self._write("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)", (key, *entry), is_growing=True)

    def remove(self, key: bytes) -> None:
        """Remove an entry."""
        with self._lock:
            self._memory.pop(key, None)
        self._write("DELETE FROM kept WHERE key = ?", (key,))

    def claim(self, key: bytes, seconds: float) -> bool:
        """Return whether this process now holds the claim, for at most `seconds`; also True if the file is unusable."""
        now = self._clock()
        count = self._write(
            "INSERT INTO kept VALUES (:key, :now, :until, 0, x'')"
            " ON CONFLICT (key) DO UPDATE SET made_at = :now, until = :until WHERE until <= :now OR made_at > :latest",
            {"key": key, "now": now, "until": now + seconds, "latest": now + _CLOCK_SKEW},
        )
        return count is None or count == 1

    def _read(self, file: SqliteFile, key: bytes) -> Entry | None:
        with file.lock:
            row = (
                file.connection()
                .execute("SELECT made_at, until, status, body FROM kept WHERE key = ?", (key,))
                .fetchone()
            )
        return None if row is None else Entry(*row)

    def _remember(self, key: bytes, entry: Entry) -> None:
        with self._lock:
            self._memory[key] = entry

    def _write(
        self, sql: str, values: tuple[object, ...] | dict[str, object], *, is_growing: bool = False
    ) -> int | None:
        """Change the file and return the number of changed rows; None without a usable file."""
        if self._file is None:
            return None
        try:
            with self._file.lock:
                connection = self._file.connection()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    count = connection.execute(sql, values).rowcount
                    if is_growing:
                        self._shrink(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            self._log_unusable(error)
            return None
        self._is_file_usable = True
        return count

    def _shrink(self, connection: sqlite3.Connection) -> None:
        now = self._clock()
        connection.execute("DELETE FROM kept WHERE until <= ? OR made_at > ?", (now, now + _CLOCK_SKEW))
        connection.execute(
            "DELETE FROM kept WHERE key IN (SELECT key FROM (SELECT key, sum(length(body) + ?) OVER"
            " (ORDER BY made_at DESC, key) AS so_far FROM kept) WHERE so_far > ?)",
            (_OVERHEAD, FILE_BYTES),
        )

    def _log_unusable(self, error: Exception) -> None:
        if self._is_file_usable:
            _log.error(
                "workers cannot share cached responses: %s", error, extra={"event": "StatisticsCacheUnavailable"}
            )
        self._is_file_usable = False


def _size(entry: Entry) -> int:
    return len(entry.body) + _OVERHEAD
