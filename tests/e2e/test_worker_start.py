"""Test signals that arrive while a worker starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import ROOT, free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.e2e
def test_a_stop_signal_reaches_a_worker_that_is_starting(tmp_path: Path) -> None:
    """A lost signal would let gunicorn kill the worker after graceful_timeout, with its hits."""
    (tmp_path / "slow.conf.py").write_text(
        f"exec(open({str(ROOT / 'gunicorn.conf.py')!r}).read())\n"
        "import pathlib, time\n"
        "def post_fork(server, worker):\n"
        "    pathlib.Path('forked').touch()\n"
        "    time.sleep(1)\n"
    )
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PROXY_TARGET": "http://127.0.0.1:9"}
    environment |= {"PORT": str(free_port()), "LISTEN_HOST": "127.0.0.1", "WEB_CONCURRENCY": "1"}
    command = [sys.executable, "-m", "gunicorn", "-c", "slow.conf.py", "app:app"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until((tmp_path / "forked").exists, 20)
        started = time.monotonic()
        process.terminate()
        process.wait(40)

        assert time.monotonic() - started < 10
        assert process.returncode == 0
    finally:
        process.kill()
