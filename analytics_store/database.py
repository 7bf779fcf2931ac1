"""One process has the database file open; a request reads it through a cursor of its own.

- A committed transaction survives the death of the process: DuckDB has synced its log before an append returns.
- Nothing outside the data directory can be read or written by any statement.
- Memory is capped; what does not fit spills to disk, and what does not fit there fails as OverMemoryError.
"""

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb

from analytics_store.errors import OverMemoryError, UnavailableError
from analytics_store.settings import Settings

FILE = "store.duckdb"
# DuckDB's own default, nearly all of the free disk, would be too kind to a runaway question.
SPILL = "4GiB"
# Seconds that the change of files after a compaction waits for those who read.
LONGEST_WAIT = 15.0
# Seconds of it for which nobody may begin to read.
SHORT_WAIT = 1.0


@cache
def statement(path: str) -> str:
    """Read a file of SQL that ships with the package."""
    return files("analytics_store").joinpath(path).read_text("utf-8")


@cache
def parameters_of(sql: str) -> frozenset[str]:
    """Name the parameters that a statement binds."""
    return frozenset(re.findall(r"\$([a-z_]+)", re.sub(r"--[^\n]*", "", sql)))


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows with the names and DuckDB types of their columns."""

    columns: list[tuple[str, str]]
    rows: list[tuple[Any, ...]]
    rows_read: int = 0
    bytes_read: int = 0


class Database:
    """The file and its connections; opened on first use, so that importing the app touches no disk."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Guards the connection and the number of cursors that are lent.
        self._change = threading.Condition(threading.RLock())
        self._lent = 0
        self._lends = True
        self._root: duckdb.DuckDBPyConnection | None = None

    @property
    def beside(self) -> Path:
        """Name the only other file that a statement may write: the one that a compaction fills."""
        return self._settings.data_dir / "beside" / FILE

    def open(self) -> duckdb.DuckDBPyConnection:
        """Open or create the file; raise UnavailableError if another process has it or it is damaged."""
        with self._change:
            if self._root is None:
                self._root = self._connect()
            return self._root

    def close(self) -> None:
        """Write everything to the file and let it go."""
        with self._change:
            if self._root is not None:
                self._root.close()
                self._root = None

    def replace(self, file: Path) -> None:
        """Put another file in place of this one, as soon as no cursor is lent; none is lent meanwhile."""
        give_up_at = time.monotonic() + LONGEST_WAIT
        with self._change:
            while not self._stop_lending(SHORT_WAIT):
                if time.monotonic() >= give_up_at:
                    raise UnavailableError("somebody is reading at length, such as an export; try again later")
                self._change.wait(SHORT_WAIT)  # a long reader should not keep all the others waiting
            try:
                self.close()
                file.replace(self._settings.data_dir / FILE)
            finally:
                self._lends = True
                self.open()
                self._change.notify_all()

    def _stop_lending(self, patience: float) -> bool:
        """Lend no more until all cursors are back or patience ends: questions in a row would leave no gap."""
        self._lends = False
        if self._change.wait_for(lambda: self._lent == 0, patience):
            return True
        self._lends = True
        self._change.notify_all()
        return False

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a connection of its own; its uncommitted work is rolled back."""
        with self._change:
            self._change.wait_for(lambda: self._lends, LONGEST_WAIT)
            root = self.open()
            self._lent += 1
        try:
            with errors_named(), root.cursor() as cursor:
                yield cursor
        except UnavailableError as error:
            if isinstance(error.__cause__, duckdb.FatalException):
                # DuckDB refuses everything from now on; opened again, the file is as the last commit left it.
                self.close()
            raise
        finally:
            with self._change:
                self._lent -= 1
                self._change.notify_all()

    def ask(self, sql: str, values: Mapping[str, Any]) -> Answer:
        """Run one statement that reads; only the values that it names are bound."""
        with self.cursor() as cursor:
            return ask(cursor, sql, values)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        directory = self._settings.data_dir
        try:
            self.beside.parent.mkdir(parents=True, exist_ok=True)
            self.beside.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(f"STORE_DATA_DIR cannot be used: {error.strerror}") from error
        with errors_named():
            root = duckdb.connect(
                str(directory / FILE),
                config={
                    "threads": self._settings.threads,
                    "memory_limit": f"{self._settings.memory_mb}MiB",
                    "temp_directory": str(directory / "spill"),
                    "max_temp_directory_size": SPILL,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "preserve_insertion_order": False,
                    # Rare checkpoints: each rewrites what sessions changed, and waits for nobody.
                    "checkpoint_threshold": "64MiB",
                },
            )
            # SET binds no parameters; this path is the operator's own.
            beside = str(self.beside.parent).replace("'", "''")
            root.execute(f"SET allowed_directories = ['{beside}']")
            root.execute("SET enable_external_access = false")
            root.execute(statement("sql/schema.sql"))
        return root


def ask(cursor: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> Answer:
    """Run one statement on a cursor and fetch everything."""
    # Profiling is measured to cost nothing, and is the only one to know how many rows were read.
    cursor.execute("SET enable_profiling = 'no_output'")
    cursor.execute(sql, {name: values[name] for name in parameters_of(sql)})
    columns = [(str(column[0]), str(column[1])) for column in cursor.description or ()]
    rows = cursor.fetchall()
    profile = json.loads(cursor.get_profiling_information("json"))
    query = profile.get("query", {})
    return Answer(columns, rows, query.get("total_rows_scanned", 0), query.get("total_intermediate_size_bytes", 0))


@contextmanager
def errors_named() -> Iterator[None]:
    """Turn DuckDB's errors into the store's; their texts may quote data and stay behind."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise OverMemoryError("the question needs more memory than STORE_MEMORY_MB allows; ask for less") from error
    except duckdb.IOException as error:
        reason = "another process has it open" if "lock" in str(error) else "its file cannot be read or written"
        raise UnavailableError(f"the store cannot be used: {reason}") from error
    except duckdb.Error as error:
        raise UnavailableError(f"the store failed: {type(error).__name__}") from error
