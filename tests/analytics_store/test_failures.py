"""An error of the store names the file, the cause and the remedy, in the answer, the log and the command."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
import requests

from analytics_store.duckdb_engine.failures import translate_errors
from analytics_store.errors import FullError, UnavailableError, explain_system
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.processes import PATIENCE, ROOT, free_port
from tests.support.store import hit, ndjson
from tests.support.store_process import HEADERS, environment, running

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES = "/v0/pipes/api_top_pages.json?site_uuid=site&date_from=2026-11-22&date_to=2026-11-22"
LIMIT = 65_536
"""Largest size of a file of a store whose disk is full, in bytes; the captured log stays below."""
EVENTS = "/v0/events?name=analytics_events&wait=true"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the content of a store's file that holds some hits."""
    directory = tmp_path_factory.mktemp("good")
    app = create_app(Settings(bind="unix:/nowhere", data_dir=directory))
    assert app.test_client().post(EVENTS, data=ndjson([hit() for _ in range(2_000)])).status_code == 200
    app.extensions["store"].engine.close()
    return (directory / "store.duckdb").read_bytes()


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "text": (lambda _: b"not a database" * 1000, "is damaged, or not a DuckDB database"),
    "zeros": (lambda content: b"\0" * len(content), "is damaged, or not a DuckDB database"),
    "empty": (lambda _: b"", "is empty"),
    "a few bytes": (lambda content: content[:100], "is damaged"),
    "only headers": (lambda content: content[:12_288], "is damaged"),
    "half": (lambda content: content[: len(content) // 2], "is damaged"),
    "header": (lambda content: content[:4096] + b"\xff" * 8192 + content[12_288:], "is damaged"),
    "blocks": (lambda content: content[:20_000] + b"\xff" * (len(content) - 20_000), "is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_with_the_remedy_and_left_as_it_is(kind: str, good: bytes, tmp_path: Path) -> None:
    damage, words = DAMAGE[kind]
    file = tmp_path / "store.duckdb"
    file.write_bytes(damage(good))

    response = create_app(Settings(bind="unix:/nowhere", data_dir=tmp_path)).test_client().get(PAGES)

    assert response.status_code == 503
    assert response.get_json()["error"] == (
        f"{file} {words}. It is left as it is; restore it from an export, or move it away to start with a new one"
        if words != "is damaged"
        else f"{file} is damaged, or not a DuckDB database. It is left as it is; restore it from an export, or move it"
        " away to start with a new one"
    )
    assert file.read_bytes() == damage(good)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: (path / "store.duckdb").mkdir(), "store.duckdb cannot be used (Is a directory)"),
        (lambda path: (path / "beside").write_bytes(b""), "beside cannot be used (File exists)"),
    ],
    ids=["a directory", "a file in place of a directory"],
)
def test_a_path_that_is_something_else_is_named(prepare: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    prepare(tmp_path)

    response = create_app(Settings(bind="unix:/nowhere", data_dir=tmp_path)).test_client().get("/health")

    assert response.status_code == 503
    assert f"{tmp_path}/{words}" in response.get_json()["error"]


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        ('Could not write file "x": No space left on device', FullError, "the disk of s.duckdb is full (No space left"),
        ("Disk quota exceeded", FullError, "the disk of s.duckdb is full (Disk quota exceeded): free some space"),
        ('Cannot open file "x": Permission denied', UnavailableError, "the store's user must be allowed to read"),
        ("Read-only file system", UnavailableError, "s.duckdb cannot be used (Read-only file system)"),
        ("Could not set lock on file x", UnavailableError, "another process has s.duckdb open"),
        ("database file with version number 99", UnavailableError, "written by another version of DuckDB"),
        ("row 'secret'", UnavailableError, "the store failed: IOException"),
    ],
)
def test_an_error_of_duckdb_is_translated(message: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught, translate_errors(Path("s.duckdb")):
        raise duckdb.IOException(message)

    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_spill_that_fills_the_disk_is_not_a_lack_of_memory() -> None:
    with pytest.raises(FullError), translate_errors(Path("s.duckdb")):
        raise duckdb.OutOfMemoryException("failed to offload: No space left on device")
    assert isinstance(explain_system(Path("d"), errno.EACCES), UnavailableError)


@pytest.mark.e2e
def test_a_full_disk_is_named_in_the_answer_and_in_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}{EVENTS}"
    with running(tmp_path, port) as process:
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        limits = resource.prlimit(int(worker), resource.RLIMIT_FSIZE)
        resource.prlimit(int(worker), resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
        refused = requests.post(url, data=ndjson([hit() for _ in range(2_000)]), headers=HEADERS, timeout=PATIENCE)
        resource.prlimit(int(worker), resource.RLIMIT_FSIZE, limits)
        accepted = requests.post(url, data=ndjson([hit()]), headers=HEADERS, timeout=PATIENCE)

    assert (refused.status_code, accepted.status_code) == (507, 200)
    assert "is full (File too large): free some space" in refused.json()["error"]
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (record,) = [each for each in records if each["event"] == "RequestFailed"]
    assert refused.json()["error"] in record["message"]


def test_commands_name_the_damage_and_show_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "store.duckdb").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "analytics_store", "info"],
        cwd=ROOT,
        env=environment(tmp_path, free_port()),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.returncode == 1
    assert f"Error: {tmp_path / 'store.duckdb'} is empty" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
def test_damage_that_an_export_meets_is_named_by_command_and_log(good: bytes, tmp_path: Path) -> None:
    file = tmp_path / "data" / "store.duckdb"
    file.parent.mkdir()
    file.write_bytes(good[: len(good) // 2])
    port = free_port()
    command = [sys.executable, "-m", "analytics_store", "export", str(tmp_path / "out.ndjson")]

    def export() -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(tmp_path / "data", port),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out.ndjson").exists()
        return done.stderr

    assert f"{file} is damaged" in export()
    with running(tmp_path / "data", port):
        assert f"{file} is damaged" in export()
