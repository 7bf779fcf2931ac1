"""One process has the database file open; a request reads it through a cursor of its own.

- A committed transaction survives the death of the process: DuckDB has synced its log before an append returns.
- Nothing outside the data directory can be read or written by any statement.
- Memory is capped; what does not fit spills to disk, and what does not fit there fails as OverMemoryError.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import duckdb

from analytics_store.errors import OverMemoryError, UnavailableError
from analytics_store.settings import Settings

FILE = "store.duckdb"
# Half of the disk's free space would be too kind to a runaway question.
SPILL = "4GiB"


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
        self._opening = threading.Lock()
        self._root: duckdb.DuckDBPyConnection | None = None

    def open(self) -> None:
        """Open or create the file; raise UnavailableError if another process has it or it is damaged."""
        with self._opening:
            if self._root is None:
                self._root = self._connect()

    def close(self) -> None:
        """Write everything to the file and let it go."""
        with self._opening:
            if self._root is not None:
                self._root.close()
                self._root = None

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a connection of its own; its uncommitted work is rolled back."""
        if self._root is None:
            self.open()
        root = self._root
        if root is None:
            raise UnavailableError("the store is closed")
        with errors_named():
            try:
                with root.cursor() as cursor:
                    yield cursor
            except duckdb.FatalException:
                # DuckDB refuses everything from now on; opened again, the file is as the last commit left it.
                self.close()
                raise

    def ask(self, sql: str, values: Mapping[str, Any]) -> Answer:
        """Run one statement that reads; only the values that it names are bound."""
        with self.cursor() as cursor:
            return ask(cursor, sql, values)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        directory = self._settings.data_dir
        try:
            directory.mkdir(parents=True, exist_ok=True)
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
