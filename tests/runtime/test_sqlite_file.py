from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fresh_processes import result_of
from traffic_analytics.errors import DamagedFile
from traffic_analytics.runtime.sqlite_file import LARGE, SqliteFile

if TYPE_CHECKING:
    from collections.abc import Callable
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


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite3"
    file = make_file(path)
    with file.lock:
        first = file.connection()
        assert file.connection() is first
    path.rename(tmp_path / "old.sqlite3")
    make_file(path)
    with file.lock:
        assert file.connection() is not first

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")


def fill(path: Path, size: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE wide (content BLOB NOT NULL)")
        for _ in range(3):
            connection.execute("INSERT INTO wide VALUES (zeroblob(?))", [size // 3])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def overwrite_a_page(path: Path) -> None:
    with path.open("r+b") as raw:
        raw.seek(path.stat().st_size // 2 // 4096 * 4096)
        raw.write(b"\xaa" * 4096)


def cut(path: Path) -> None:
    with path.open("r+b") as raw:
        raw.truncate(path.stat().st_size - 4096)


def test_a_small_file_is_checked_before_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite3"
    make_file(path)
    fill(path, LARGE // 8)
    assert make_file(path).chore is None
    overwrite_a_page(path)

    with pytest.raises(DamagedFile, match=r"f\.sqlite3 is damaged"):
        make_file(path)


def test_a_large_file_is_checked_in_the_background_by_one_process(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite3"
    make_file(path)
    fill(path, LARGE)
    one, other = make_file(path), make_file(path)
    assert one.chore is not None
    assert other.chore is not None
    other_chore = other.chore

    assert one.chore() > 0
    assert one.chore is None
    overwrite_a_page(path)
    assert other_chore() > 0, "it does not check"
    one._check_lock.release()
    with pytest.raises(DamagedFile, match=r"f\.sqlite3 is damaged"):
        other_chore()
    other._check_lock.release()


@pytest.mark.parametrize(
    "damage",
    [cut, lambda path: path.write_bytes(b"garbage" * (LARGE // 7 + 1)), lambda path: path.write_bytes(bytes(LARGE))],
    ids=["cut", "garbage", "zeros"],
)
def test_a_large_file_whose_beginning_or_end_is_lost_is_not_used(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "f.sqlite3"
    make_file(path)
    fill(path, LARGE)
    damage(path)
    content = path.read_bytes()

    with pytest.raises(DamagedFile, match=r"f\.sqlite3"):
        make_file(path)
    assert path.read_bytes() == content


def use_before_and_after_a_fork(path: Path, results: Any) -> None:
    file = make_file(path)
    with file.lock:
        inherited = file.connection()
    if child := os.fork():
        results.put(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return
    with file.lock:
        is_new = file.connection() is not inherited
    is_open = inherited.total_changes == 0  # raises if it is closed
    os._exit(0 if is_new and is_open else 1)


def test_a_forked_process_opens_its_own_connection_and_does_not_close_its_parents(tmp_path: Path) -> None:
    assert result_of(use_before_and_after_a_fork, tmp_path / "f.sqlite3") == 0
