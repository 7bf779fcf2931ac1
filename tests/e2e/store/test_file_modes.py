"""Files of the store and its commands are the owner's alone."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.processes import ROOT, free_port, wait_until
from tests.support.store import hit, ndjson
from tests.support.store_process import HEADERS, environment, running

pytestmark = pytest.mark.e2e

URL = "/v0/events?name=analytics_events&wait=true"


def modes(directory: Path) -> dict[str, int]:
    return {str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}


def test_only_the_owner_may_read_what_the_store_and_its_commands_write(tmp_path: Path) -> None:
    port = free_port()
    exports = tmp_path / "exports"
    exports.mkdir()
    command = [sys.executable, "-m", "flask", "--app", "analytics_store.app"]
    with running(tmp_path / "new" / "store", port):
        requests.post(
            f"http://127.0.0.1:{port}{URL}", data=ndjson([hit()]), headers=HEADERS, timeout=30
        ).raise_for_status()
        assert modes(tmp_path / "new") == {
            "store": 0o700, "store/store.duckdb": 0o600, "store/store.duckdb.wal": 0o600, "store/beside": 0o700,
            "store/journal": 0o700, "store/journal/00000000000000000000": 0o600,
        }  # fmt: skip
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
        for suffix in ("ndjson", "ndjson.gz", "parquet"):
            (exports / f"older.{suffix}").touch()
            (exports / f"older.{suffix}").chmod(0o644)
        for name in ("e.ndjson", "e.ndjson.gz", "e.parquet", "older.ndjson", "older.ndjson.gz", "older.parquet"):
            subprocess.run(
                [*command, "store", "export", exports / name],
                cwd=ROOT, env=environment(tmp_path / "new" / "store", port), check=True,
            )  # fmt: skip
    assert set(modes(exports).values()) == {0o600}
    assert len(modes(exports)) == 6


def test_wider_modes_are_narrowed_at_the_start_and_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data_dir = tmp_path / "store"
    with running(data_dir, free_port()):
        pass
    (data_dir / "spill").mkdir(exist_ok=True)
    (data_dir / "of-another-program").touch()
    (data_dir / "of-another-program").chmod(0o644)
    for name, mode in (("", 0o755), ("beside", 0o775), ("spill", 0o777), ("store.duckdb", 0o644)):
        (data_dir / name).chmod(mode)
    capfd.readouterr()
    with running(data_dir, free_port()):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        found = modes(data_dir)
    assert (found["beside"], found["store.duckdb"], found["of-another-program"]) == (0o700, 0o600, 0o644)
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (narrowed,) = [record for record in records if record["event"] == "StoreFilesNarrowed"]
    assert sorted(narrowed["paths"]) == sorted(str(data_dir / name) for name in ("", "beside", "spill", "store.duckdb"))


def test_only_the_owner_may_connect_to_the_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "store.sock"
    command = [sys.executable, "-m", "gunicorn", "-c", "analytics_store/gunicorn.conf.py"]
    settings = environment(tmp_path / "store", 1) | {"STORE_BIND": f"unix:{path}"}
    previous = os.umask(0)
    try:
        process = subprocess.Popen(command, cwd=ROOT, env=settings)
    finally:
        os.umask(previous)
    try:
        wait_until(path.exists, 30)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        # A worker that is still starting would not hear the signal to stop.
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert client.recv(1_000).startswith(b"HTTP/1.0 200")
    finally:
        process.terminate()
        process.wait(30)
