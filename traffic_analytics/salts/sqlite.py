"""Store salts in an SQLite file, for all processes of one machine."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.runtime.sqlite_file import SqliteFile
from traffic_analytics.salts.new_sites import KNOWN_FOR, admit_all
from traffic_analytics.salts.store import new_salt

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

    from traffic_analytics.salts.store import Scope

STEP = 1000
"""Number of salts, of sites or of free pages, that one transaction of a sweep removes; it takes about a millisecond."""
REST = 0.005
"""Time between two transactions of a sweep, in seconds, in which hits can write."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS salts (day TEXT NOT NULL, site_uuid TEXT NOT NULL, salt TEXT NOT NULL,
    PRIMARY KEY (day, site_uuid)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS sites (site_uuid TEXT PRIMARY KEY, last_day TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE INDEX IF NOT EXISTS sites_by_last_day ON sites (last_day);
INSERT INTO sites SELECT site_uuid, max(day) FROM salts WHERE NOT EXISTS (SELECT 1 FROM sites) GROUP BY site_uuid;
"""
"""Tables, and the sites of a file of version 0.1.0, which has only salts."""
_DELETE_SALTS = (
    "DELETE FROM salts WHERE (day, site_uuid) IN"
    " (SELECT day, site_uuid FROM salts WHERE day < ? ORDER BY day, site_uuid LIMIT ?)"
)
_DELETE_SITES = "DELETE FROM sites WHERE site_uuid IN (SELECT site_uuid FROM sites WHERE last_day < ? LIMIT ?)"


class SqliteSalts:
    """Store the salts of one machine in one file, which its processes share.

    A deleted salt is overwritten (secure_delete) and the write-ahead log is truncated, so that no copy stays in either
    file. A power cut may lose the last salts, but changes none: visitors of their sites count twice on that day.

    The file also lists the sites that had a salt within KNOWN_FOR. They are not new after a midnight or a restart.
    """

    scope: Scope = "machine"

    def __init__(
        self, path: Path, admit: Callable[[str], None] = admit_all, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._admit = admit
        self._sleep = sleep
        self._file = SqliteFile(
            path,
            _SCHEMA,
            ["auto_vacuum = INCREMENTAL", "secure_delete = ON", "synchronous = NORMAL", "temp_store = MEMORY"],
            busy_timeout=2.0,
        )

    def prepare(self) -> None:
        """Create the file, or check the existing one. Raises DamagedFile."""
        self._file.prepare()

    @property
    def chore(self) -> Callable[[], float] | None:
        """Check a large file in the background."""
        return self._file.chore

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day; the first process creates it."""
        key = (day.isoformat(), site_uuid)
        try:
            with self._file.lock:
                connection = self._file.connection()
                row = connection.execute("SELECT salt FROM salts WHERE day = ? AND site_uuid = ?", key).fetchone()
                if row is None:
                    if not connection.execute("SELECT 1 FROM sites WHERE site_uuid = ?", key[1:]).fetchone():
                        self._admit(site_uuid)
                    connection.execute("INSERT OR REPLACE INTO sites VALUES (?, ?)", key[::-1])
                    connection.execute("INSERT OR IGNORE INTO salts VALUES (?, ?, ?)", (*key, new_salt()))
                    row = connection.execute("SELECT salt FROM salts WHERE day = ? AND site_uuid = ?", key).fetchone()
        except sqlite3.Error as error:
            raise SaltUnavailable(str(error)) from error
        return str(row[0])

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days beyond recovery, shorten the file, and return their number.

        Works in small steps, between which hits can read and create salts.
        """
        count = 0
        try:
            while deleted := self._delete_some(_DELETE_SALTS, day):
                count += deleted
                self._sleep(REST)
            while self._delete_some(_DELETE_SITES, day - KNOWN_FOR):
                self._sleep(REST)
            while self._remove_free_pages():
                self._sleep(REST)
            with self._file.lock:
                # The log holds deleted salts until it is truncated, which fails while another process reads.
                busy = self._file.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise SaltUnavailable(str(error)) from error
        if busy:
            raise SaltUnavailable("the write-ahead log is in use and still holds deleted salts")
        return count

    def check(self) -> None:
        """Check that the file can be read and written."""
        try:
            with self._file.lock:
                connection = self._file.connection()
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise SaltUnavailable(str(error)) from error

    def _delete_some(self, statement: str, day: date) -> int:
        with self._file.lock:
            return self._file.connection().execute(statement, (day.isoformat(), STEP)).rowcount

    def _remove_free_pages(self) -> bool:
        """Remove some free pages, and return whether there are more."""
        with self._file.lock:
            connection = self._file.connection()
            if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 0:
                connection.execute("VACUUM")  # a file of version 0.1.0, which is converted by it
            before = connection.execute("PRAGMA freelist_count").fetchone()[0]
            connection.executescript(f"PRAGMA incremental_vacuum({STEP})")  # `execute` would stop after the first page
            after = connection.execute("PRAGMA freelist_count").fetchone()[0]
        return bool(0 < after < before)
