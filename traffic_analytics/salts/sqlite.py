"""Store salts in an SQLite file, for all processes of one machine."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.runtime.sqlite_file import SqliteFile
from traffic_analytics.salts.store import new_salt

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from traffic_analytics.salts.store import Scope


class SqliteSalts:
    """Store the salts of one machine in one file, which its processes share.

    A deleted salt is overwritten (secure_delete) and the write-ahead log is truncated, so that no copy stays in either
    file. A power cut may lose the last salts, but changes none: visitors of their sites count twice on that day.
    """

    scope: Scope = "machine"
    chore = None

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(
            path,
            "CREATE TABLE IF NOT EXISTS salts (day TEXT NOT NULL, site_uuid TEXT NOT NULL, salt TEXT NOT NULL,"
            " PRIMARY KEY (day, site_uuid)) WITHOUT ROWID, STRICT",
            ["secure_delete = ON", "synchronous = NORMAL"],
            busy_timeout=2.0,
        )

    def prepare(self) -> None:
        """Create the file, or check the existing one. Raises DamagedFile."""
        self._file.prepare()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day; the first process creates it."""
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
        """Delete the salts of all earlier days beyond recovery, and return their number."""
        try:
            with self._file.lock:
                connection = self._file.connection()
                count = connection.execute("DELETE FROM salts WHERE day < ?", (day.isoformat(),)).rowcount
                # The log holds deleted salts until it is truncated, which fails while another process reads.
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
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

    def close(self) -> None:
        """Close the file in this process."""
        self._file.close()
