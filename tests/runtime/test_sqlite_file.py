from __future__ import annotations

import gc
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fresh_processes import result_of
from traffic_analytics.runtime.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from pathlib import Path


def make_file(path: Path) -> SqliteFile:
    file = SqliteFile(path, "CREATE TABLE IF NOT EXISTS t (a INTEGER) STRICT", busy_timeout=1.0)
    file.prepare()
    return file


def test_a_file_closes_its_connection_when_it_is_garbage(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.sqlite3")
    with file.lock:
        connection = file.connection()
    del file
    gc.collect()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_closed_file_can_be_opened_again(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.sqlite3")
    with file.lock:
        first = file.connection()
        assert file.connection() is first
    file.close()
    file.close()
    with file.lock:
        second = file.connection()
        second.execute("SELECT 1")
    file.close()

    for connection in (first, second):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite3"
    file = make_file(path)
    with file.lock:
        first = file.connection()
    path.rename(tmp_path / "old.sqlite3")
    make_file(path)
    with file.lock:
        assert file.connection() is not first
    file.close()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")


def use_before_and_after_a_fork(path: Path, results: Any) -> None:
    file = make_file(path)
    with file.lock:
        inherited = file.connection()
    if child := os.fork():
        results.put(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return
    with file.lock:
        is_new = file.connection() is not inherited
    file.close()
    is_open = inherited.total_changes == 0  # raises if it is closed
    os._exit(0 if is_new and is_open else 1)


def test_a_forked_process_opens_its_own_connection_and_does_not_close_its_parents(tmp_path: Path) -> None:
    assert result_of(use_before_and_after_a_fork, tmp_path / "f.sqlite3") == 0
