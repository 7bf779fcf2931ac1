"""Run the store as a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.processes import ROOT

TOKEN = "an-admin-token-that-only-this-test-knows"


HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def environment(data_dir: Path, port: int) -> dict[str, str]:
    return os.environ | {  # noqa: TID251 - the processes need the whole environment
        "STORE_DATA_DIR": str(data_dir), "STORE_BIND": f"127.0.0.1:{port}", "STORE_ADMIN_TOKEN": TOKEN,
    }  # fmt: skip


@contextmanager
def running(data_dir: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the store as an operator does, in a process group of its own."""
    command = [sys.executable, "-m", "gunicorn", "-c", "analytics_store/gunicorn.conf.py", "analytics_store.app:app"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(data_dir, port), start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not answers(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    except requests.ConnectionError:
        return False
