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
def test_a_signal_to_stop_reaches_a_worker_that_is_just_starting(tmp_path: Path) -> None:
    """If it were lost, gunicorn would kill the worker with its hits after the graceful timeout."""
    (tmp_path / "slow.conf.py").write_text(
        f"exec(open({str(ROOT / 'gunicorn.conf.py')!r}).read())\n"
        "import pathlib, time\n"
        "def post_fork(server, worker):\n"
        "    pathlib.Path('born').touch()\n"
        "    time.sleep(1)\n"
    )
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PROXY_TARGET": "http://127.0.0.1:9"}
    environment |= {"PORT": str(free_port()), "LISTEN_HOST": "127.0.0.1", "WEB_CONCURRENCY": "1"}
    command = [sys.executable, "-m", "gunicorn", "-c", "slow.conf.py", "app:app"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until((tmp_path / "born").exists, 20)
        begun = time.monotonic()
        process.terminate()
        process.wait(40)

        assert time.monotonic() - begun < 10
        assert process.returncode == 0
    finally:
        process.kill()
