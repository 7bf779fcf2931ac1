"""Open the database file in one process, and lend each request a cursor of its own.

- A committed transaction survives the end of the process: DuckDB has synced its log before an append returns.
- No statement can read or write outside the data directory.
- Memory is limited. A query over the limit spills to disk, and fails with OverMemoryError at the limit of that.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb

from analytics_store import file_modes
from analytics_store.duckdb_engine.failures import translate_errors
from analytics_store.duckdb_engine.statements import list_parameters, read_sql
from analytics_store.engine import Result
from analytics_store.errors import OverMemoryError, UnavailableError, explain_system
from analytics_store.settings import Settings
from traffic_analytics.errors import AnalyticsError

_log = logging.getLogger(__name__)

FILE = "store.duckdb"
LOG = "store.duckdb.wal"
SPILL_LIMIT = "4GiB"
"""Most disk space of queries that exceed the memory; DuckDB's default is nearly all of the free space."""
LONGEST_WAIT = 15.0
"""Longest wait of a compaction for the end of all reads, in seconds."""
SHORT_WAIT = 1.0
"""Longest time without a pause in which a waiting compaction stops reads from beginning, in seconds."""


class Database:
    """Own the file and its connections; it is opened on first use, so that an import of the app opens no file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.data_dir / FILE
        # Guards the connection and the number of cursors.
        self._change = threading.Condition(threading.RLock())
        self._cursors = 0
        self._lends_cursors = True
        self._root: duckdb.DuckDBPyConnection | None = None

    @property
    def compaction_file(self) -> Path:
        """Return the only other file that a statement may write: the result of a compaction."""
        return self._settings.data_dir / "beside" / FILE

    def open(self) -> duckdb.DuckDBPyConnection:
        """Open or create the file; raises DamagedFile, FullError, or UnavailableError."""
        with self._change:
            if self._root is None:
                self._root = self._connect()
            return self._root

    def close(self) -> None:
        """Write everything to the file and close it."""
        with self._change:
            if self._root is not None:
                self._root.close()
                self._root = None

    def replace(self, file: Path) -> None:
        """Replace the file by another one when no cursor is in use; none is lent until then."""
        give_up_at = time.monotonic() + LONGEST_WAIT
        with self._change:
            while not self._stop_lending(SHORT_WAIT):
                if time.monotonic() >= give_up_at:
                    raise UnavailableError("a long read is in progress, such as an export; try again later")
                self._change.wait(SHORT_WAIT)  # other reads must not wait for a long one
            try:
                self.close()
                file.replace(self._file)
            finally:
                self._lends_cursors = True
                self.open()
                self._change.notify_all()

    def _stop_lending(self, seconds: float) -> bool:
        """Lend no cursor until all are returned, for at most `seconds`; consecutive queries would leave no gap."""
        self._lends_cursors = False
        if self._change.wait_for(lambda: self._cursors == 0, seconds):
            return True
        self._lends_cursors = True
        self._change.notify_all()
        return False

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a connection to one caller; uncommitted work is rolled back at the end."""
        with self._change:
            self._change.wait_for(lambda: self._lends_cursors, LONGEST_WAIT)
            root = self.open()
            self._cursors += 1
        try:
            with translate_errors(self._file), root.cursor() as cursor:
                yield cursor
        except AnalyticsError as error:
            if isinstance(error.__cause__, duckdb.FatalException):
                # DuckDB refuses all statements after this error. Opened again, the file is as the last commit left it.
                self.close()
            raise
        finally:
            with self._change:
                self._cursors -= 1
                self._change.notify_all()

    def query(self, sql: str, values: Mapping[str, Any]) -> Result:
        """Run one statement that reads and fetch everything; only the values that it names are bound."""
        with self.cursor() as cursor:
            # Profiling costs nothing measurable, and is the only source of the number of rows read.
            cursor.execute("SET enable_profiling = 'no_output'")
            cursor.execute(sql, {name: values[name] for name in list_parameters(sql)})
            columns = [(str(column[0]), str(column[1])) for column in cursor.description or ()]
            rows = cursor.fetchall()
            profile = json.loads(cursor.get_profiling_information("json")).get("query", {})
        return Result(
            columns, rows, profile.get("total_rows_scanned", 0), profile.get("total_intermediate_size_bytes", 0)
        )

    def size(self) -> int:
        """Return the bytes of the file and of its log."""
        size = 0
        for name in (FILE, LOG):
            with suppress(FileNotFoundError):
                size += (self._settings.data_dir / name).stat().st_size
        return size

    def checkpoint(self) -> None:
        """Write the log to the file; while another transaction is open, DuckDB refuses, and the log stays."""
        with suppress(OverMemoryError, UnavailableError), self.cursor() as cursor:
            cursor.execute("CHECKPOINT")

    def _connect(self) -> duckdb.DuckDBPyConnection:
        directory = self._settings.data_dir
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.compaction_file.parent.mkdir(mode=0o700, exist_ok=True)
            self.compaction_file.unlink(missing_ok=True)
            own = (directory.glob(pattern) for pattern in (f"{FILE}*", "beside", "spill", "spill/*"))
            file_modes.narrow((directory, *chain.from_iterable(own)))
        except OSError as error:
            raise explain_system(Path(error.filename or directory), error.errno or 0) from error
        with translate_errors(self._file):
            root = duckdb.connect(
                str(self._file),
                config={
                    "threads": self._settings.threads,
                    "memory_limit": f"{self._settings.memory_mb}MiB",
                    "temp_directory": str(directory / "spill"),
                    "max_temp_directory_size": SPILL_LIMIT,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "preserve_insertion_order": False,
                    # Rare checkpoints: each rewrites the changed sessions.
                    "checkpoint_threshold": "64MiB",
                },
            )
            # SET binds no parameters; the path comes from the operator's settings.
            directory_name = str(self.compaction_file.parent).replace("'", "''")
            root.execute(f"SET allowed_directories = ['{directory_name}']")
            root.execute("SET enable_external_access = false")
            before = {name for (name,) in root.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
            root.execute(read_sql("sql/schema.sql"))
        if before and "journal" not in before:
            _log.info("the file of an earlier version was taken over", extra={"event": "StoreFileUpgraded"})
        return root
