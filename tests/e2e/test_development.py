"""Test `make run`: its printed commands work, and its processes stop together."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import PATIENCE, ROOT, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

NEEDED = (
    "Procfile.dev",
    "analytics_store",
    "app.py",
    "development",
    "gunicorn.conf.py",
    "traffic_analytics",
)


class Development:
    """Processes of `make run`, in a directory without a developer's `.env`."""

    def __init__(self, directory: Path, **environment: str) -> None:
        for name in NEEDED:
            (directory / name).symlink_to(ROOT / name)
        self.directory = directory
        self.tokens = directory / "data" / "development" / "tokens.env"
        self._environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
        self._environment |= {"PORT": str(free_port()), "STORE_BIND": f"127.0.0.1:{free_port()}", **environment}
        self.port = self._environment["PORT"]
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "development"],
                cwd=self.directory,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: "Ctrl-C stops" in self.output or self.process.poll() is not None, 30)

    @property
    def output_file(self) -> Path:
        return self.directory / f"output{self.starts}"

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    def paste(self, first_words: str) -> str:
        """Run the printed command that starts with these words; it ends with an empty line."""
        (command,) = [each for each in self.output.split("\n\n") if each.startswith(first_words)]
        return subprocess.run(
            command,
            shell=True,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    def pids(self) -> list[int]:
        """Return the process ids of the two gunicorn masters."""
        return [int(line.rpartition("=")[2][:-1]) for line in self.output.splitlines() if " started (pid=" in line]

    def interrupt(self) -> int:
        """Send SIGINT as Ctrl-C does; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@pytest.fixture
def development(tmp_path: Path) -> Iterator[Development]:
    development = Development(tmp_path)
    yield development
    if development.process.poll() is None:
        development.interrupt()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_printed_commands_work(development: Development) -> None:
    development.start()

    introduction = development.output.partition("\ncurl ")[0].splitlines()
    assert f"Traffic Analytics: http://127.0.0.1:{development.port}" in introduction
    assert "HTTP/1.1 202 " in development.paste("curl -i ")
    wait_until(lambda: json.loads(development.paste("curl 'http"))["data"])
    (row,) = json.loads(development.paste("curl 'http"))["data"]
    assert row == {"post_uuid": "", "pathname": "/welcome/", "visits": 1}
    wait_until(lambda: "EventAccepted" in development.output)
    assert "device: desktop" in development.output.partition("EventAccepted")[2]
    assert development.interrupt() == 0
    assert not any(map(is_alive, development.pids()))


def test_the_address_of_the_dashboard_is_printed_before_anything_else_to_try(development: Development) -> None:
    development.start()

    url = re.search(
        r"^The dashboard, to open in a browser: (http://\S+/dashboard/)\n\nTraffic", development.output, re.MULTILINE
    )
    assert url is not None
    with urllib.request.urlopen(url[1], timeout=PATIENCE) as page:
        assert b"<title>Traffic Analytics</title>" in page.read()
    assert development.interrupt() == 0


def test_tokens_are_made_once_and_readable_by_their_owner_only(development: Development) -> None:
    development.start()
    tokens = development.tokens.read_text()
    assert development.tokens.stat().st_mode & 0o077 == 0
    assert development.interrupt() == 0

    development.start()
    assert development.tokens.read_text() == tokens
    assert all(line.partition("=")[2] in development.output for line in tokens.splitlines() if "TRACKER" not in line)


@pytest.mark.parametrize("index", [0, 1])
def test_if_one_process_dies_the_other_stops(development: Development, index: int) -> None:
    development.start()
    pids = development.pids()

    os.kill(pids[index], signal.SIGKILL)

    assert development.process.wait(30) != 0
    wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("name", ["PORT", "STORE_BIND"])
def test_a_taken_port_is_one_line_that_names_the_variable(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        prefix = {"PORT": "", "STORE_BIND": "127.0.0.1:"}[name]
        development = Development(tmp_path, **{name: f"{prefix}{port}"})
        development.start()

    assert development.process.wait(30) == 1
    assert development.output == (
        f"{name}: {port} cannot be used (Address already in use). "
        f"Choose another one: make run {name}={prefix}{port + 1}\n"
    )


def test_the_environment_overrides_defaults_and_mistakes_stop_the_start(tmp_path: Path) -> None:
    development = Development(tmp_path, PROXY_TARGET="ftp://nowhere", STORE_MEMORY_MB="1")
    development.start()
    assert development.process.wait(30) == 1
    assert "STORE_MEMORY_MB: must be a whole number" in development.output
    assert "started" not in development.output
