"""Run the stores and emulators that the service needs as processes that a test can kill, suspend and restart."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.support.processes import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GOOGLE_EMULATORS = Path("/usr/lib/google-cloud-sdk/platform")
PASSWORD = "the-password-of-these-tests"
STARTS_WITHIN = 60.0
"""Time until a Java program responds on a busy machine, in seconds."""


class Neighbour:
    """Run a program on a port of 127.0.0.1 within a `with` block; `{port}` in its command is replaced."""

    def __init__(
        self, directory: Path, command: Sequence[str], answers: Callable[[int], bool], **environment: str
    ) -> None:
        self.port = free_port()
        self.log_file = directory / f"{Path(command[0]).name}-{self.port}.log"
        self._directory = directory
        self._command = [word.replace("{port}", str(self.port)) for word in command]
        self._answers = answers
        self._environment = {"PATH": os.defpath, "HOME": str(directory)} | environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return when it responds; after a stop it starts on the same port."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self.answers, STARTS_WITHIN)

    def answers(self) -> bool:
        """Return whether it can be used."""
        assert self._process is not None
        assert self._process.poll() is None, self.log_file.read_text()
        with contextlib.suppress(OSError):
            return self._answers(self.port)
        return False

    def hang(self) -> None:
        """Suspend it: the kernel accepts connections, and no request gets a response."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume it."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it and its child processes, suspended or not; its memory is lost."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


def redis(directory: Path) -> Neighbour:
    """Describe a Redis that requires PASSWORD and stores nothing on disk."""
    command = [found("redis-server"), "--port", "{port}", "--bind", "127.0.0.1", "--requirepass", PASSWORD]
    return Neighbour(directory, [*command, "--save", "", "--appendonly", "no"], _redis_answers)


def firestore(directory: Path) -> Neighbour:
    """Describe Google's emulator of Firestore."""
    jar = found(GOOGLE_EMULATORS / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar")
    program = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
    return Neighbour(directory, [found("java"), "-cp", jar, program, "--host=127.0.0.1", "--port={port}"], answers_http)


def found(what: str | Path) -> str:
    """Return the path of a program or file; if it is missing, skip the test, or fail it in CI."""
    path = path_of(what)
    if path is None:
        message = f"{what} is not installed"
        if os.environ.get("CI"):  # noqa: TID251 - no setting of the service
            pytest.fail(message)
        pytest.skip(message)
    return path


def path_of(what: str | Path) -> str | None:
    """Return the path of a program or file if it exists."""
    if isinstance(what, str):
        return shutil.which(what)
    return str(what) if what.exists() else None


def answers_http(port: int) -> bool:
    """Return whether a server on this port answers HTTP with 200."""
    return _send(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def _redis_answers(port: int) -> bool:
    return _send(port, f"AUTH {PASSWORD}\r\n".encode()) == b"+OK\r\n"


def _send(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
        sock.sendall(data)
        return sock.recv(1024)
