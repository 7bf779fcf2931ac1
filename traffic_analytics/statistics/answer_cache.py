"""One question is asked once for all processes of a machine, and its answer kept for a while.

Invariants:
- What is kept is found by a hash only; neither a token nor a question can be read from the file.
- Both layers are bounded, in bytes; the oldest makes room. Nothing outlives its `until`, not even by a clock set back.
- A claim is held by one process at a time and runs out by itself, so a killed process holds nothing up for long.
- The file only saves questions: if it cannot be used, each process goes by its memory, and says so.

Several workers are the default, and each would otherwise keep its own answers: eight workers, eight times the queries.
Memory in front of the file saves reading it again, and carries on without it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, NamedTuple

from cachetools import TLRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.runtime.sqlite_file import SqliteFile

_log = logging.getLogger(__name__)

LARGEST = 1024 * 1024
"""Bytes of the largest answer that is kept; Ghost's are some kilobytes."""
MEMORY_BYTES = 8 * LARGEST
FILE_BYTES = 32 * LARGEST
_COST = 4096
"""Bytes that an entry takes at least."""
_SET_BACK = 5.0
"""Seconds that clocks may differ; what is from further in the future was kept before the clock was set back."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (
  key BLOB PRIMARY KEY, made_at REAL NOT NULL, until REAL NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL
) STRICT
"""
PRAGMAS = ("synchronous = NORMAL",)


class Kept(NamedTuple):
    """An answer, a pause or a claim: when it was made and when it is to be forgotten (seconds since 1970)."""

    made_at: float
    until: float
    status: int = 0
    body: bytes = b""


class AnswerCache:
    """What is kept, in this process's memory and, if there is a file, for all processes that share it."""

    def __init__(self, file: SqliteFile | None, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._memory: TLRUCache[bytes, Kept] = TLRUCache(
            MEMORY_BYTES, ttu=lambda _key, kept, _now: kept.until, timer=clock, getsizeof=_size
        )
        self._file_works = True

    def prepare(self) -> None:
        """Create the file, or check the one that is there; raises DamagedFile."""
        if self._file is not None:
            self._file.prepare()

    def get(self, key: bytes, newer_than: float = float("-inf")) -> Kept | None:
        """Return the newest that is kept; the file is looked at only if memory has nothing newer than asked for."""
        now = self._clock()
        with self._lock:
            kept = self._memory.get(key)
        if kept is not None and newer_than < kept.made_at <= now + _SET_BACK:
            return kept
        if self._file is not None:
            try:
                kept = self._read(self._file, key)
            except sqlite3.Error as error:
                self._say(error)
        if kept is None or not kept.made_at - _SET_BACK <= now < kept.until:
            with self._lock:
                self._memory.pop(key, None)
            return None
        self._remember(key, kept)
        return kept

    def put(self, key: bytes, kept: Kept) -> None:
        """Keep something in place of what was kept before, unless it is too large."""
        if len(kept.body) > LARGEST:
            return
        self._remember(key, kept)
        self._write("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)", (key, *kept), make_room=True)

    def forget(self, key: bytes) -> None:
        """Keep it no longer."""
        with self._lock:
            self._memory.pop(key, None)
        self._write("DELETE FROM kept WHERE key = ?", (key,))

    def claim(self, key: bytes, seconds: float) -> bool:
        """Be the one process that asks, for at most so many seconds; True also if processes cannot agree."""
        now = self._clock()
        taken = self._write(
            "INSERT INTO kept VALUES (?1, ?2, ?3, 0, x'') ON CONFLICT (key) DO UPDATE SET made_at = ?2, until = ?3"
            " WHERE until <= ?2 OR made_at > ?4",
            (key, now, now + seconds, now + _SET_BACK),
        )
        return taken is None or taken == 1

    def _read(self, file: SqliteFile, key: bytes) -> Kept | None:
        with file.lock:
            row = (
                file.connection()
                .execute("SELECT made_at, until, status, body FROM kept WHERE key = ?", (key,))
                .fetchone()
            )
        return None if row is None else Kept(*row)

    def _remember(self, key: bytes, kept: Kept) -> None:
        with self._lock:
            self._memory[key] = kept

    def _write(self, sql: str, values: tuple[object, ...], *, make_room: bool = False) -> int | None:
        """Change the file and say how many rows changed; None if there is no file or it cannot be used."""
        if self._file is None:
            return None
        try:
            with self._file.lock:
                connection = self._file.connection()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    count = connection.execute(sql, values).rowcount
                    if make_room:
                        self._make_room(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            self._say(error)
            return None
        self._file_works = True
        return count

    def _make_room(self, connection: sqlite3.Connection) -> None:
        now = self._clock()
        connection.execute("DELETE FROM kept WHERE until <= ? OR made_at > ?", (now, now + _SET_BACK))
        connection.execute(
            "DELETE FROM kept WHERE key IN (SELECT key FROM (SELECT key, sum(length(body) + ?) OVER"
            " (ORDER BY made_at DESC, key) AS so_far FROM kept) WHERE so_far > ?)",
            (_COST, FILE_BYTES),
        )

    def _say(self, error: sqlite3.Error) -> None:
        if self._file_works:
            _log.error(
                "answers cannot be shared between workers: %s", error, extra={"event": "StatisticsCacheUnavailable"}
            )
        self._file_works = False


def _size(kept: Kept) -> int:
    return len(kept.body) + _COST
