"""Turn DuckDB's errors into the store's, which name the file, the cause and the remedy."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from analytics_store.errors import DISK_IS_FULL, OverMemoryError, StoreError, UnavailableError, explain_system
from traffic_analytics.errors import AnalyticsError, DamagedFile

CAUSES = (*DISK_IS_FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.EMFILE, errno.EIO)
"""Errors of the system that DuckDB's messages quote."""
DAMAGE = ("Corrupt database file", "Could not read enough bytes", "not a valid DuckDB database file")
OUT_OF_MEMORY = ("failed to pin block", "failed to allocate")
"""Words of a commit that failed at the memory limit; it has an error of another type than a statement."""
RESTORE = "It is left as it is; restore it from an export, or move it away to start with a new one"


@contextmanager
def translate_errors(file: Path) -> Iterator[None]:
    """Raise the store's errors in place of DuckDB's. Messages of those may quote rows, and are dropped."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise _explain_memory(file, error) from error
    except duckdb.Error as error:
        raise _explain(file, error) from error


def _explain_memory(file: Path, error: duckdb.Error) -> StoreError:
    # A query that spills has its own limit; the disk may be full before.
    number = _system_error(str(error))
    if number in DISK_IS_FULL:
        return explain_system(file, number)
    return OverMemoryError("the query needs more memory than STORE_MEMORY_MB allows; ask for less")


def _explain(file: Path, error: duckdb.Error) -> AnalyticsError:
    message = str(error)
    if any(words in message for words in DAMAGE):
        is_empty = file.is_file() and file.stat().st_size == 0
        return DamagedFile(f"{file} is {'empty' if is_empty else 'damaged, or not a DuckDB database'}. {RESTORE}")
    if any(words in message for words in OUT_OF_MEMORY):
        return _explain_memory(file, error)
    if "lock on file" in message:
        return UnavailableError(f"another process has {file} open: only one store may use a directory; stop the other")
    if "version number" in message:
        return UnavailableError(
            f"{file} was written by another version of DuckDB: export it with that version, and import it here"
        )
    number = _system_error(message)
    if number is not None:
        return explain_system(file, number)
    return UnavailableError(f"the store failed: {type(error).__name__}")


def _system_error(message: str) -> int | None:
    return next((number for number in CAUSES if os.strerror(number) in message), None)
