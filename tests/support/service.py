"""Run the service as operators do: gunicorn, its workers, and the command line."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.support.processes import COVERAGE, ROOT, free_port, wait_until

TOKEN = "p.the-token-of-these-tests"
ADDRESS = "203.0.113.77"


class Service:
    """Gunicorn with one data directory; after its end it can be started again on the same port."""

    def __init__(self, data_dir: Path, target: str, app: str = "app:app", **environment: str) -> None:
        self.data_dir = data_dir
        self._app = app
        self.port = free_port()
        self.log_file = data_dir.with_name(data_dir.name + ".log")
        self.log_file.touch()
        self.environment = {
            **COVERAGE,
            "PYTHONPATH": str(ROOT),  # not the working directory, where a developer's .env would be read
            "PROXY_TARGET": target,
            "TINYBIRD_TRACKER_TOKEN": TOKEN,
            "DATA_DIR": str(data_dir),
            "LISTEN_HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
            "BATCH_FLUSH_INTERVAL_MS": "100",
        } | environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it is ready."""
        self.spawn()
        wait_until(lambda: self.exit_code() is not None or self.get("/ready")[0] == 200, 20)
        assert self.exit_code() is None, self.log

    def spawn(self) -> None:
        """Start without waiting for anything."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), self._app],
                cwd=self.log_file.parent,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """Return the exit code of gunicorn, if it has ended."""
        assert self._process is not None
        return self._process.poll()

    def terminate(self) -> float:
        """Send SIGTERM, and return the seconds until the end."""
        assert self._process is not None
        started = time.monotonic()
        self._process.terminate()
        self._process.wait(40)
        return time.monotonic() - started

    def kill_tree(self) -> None:
        """Kill master and workers at once, as a machine's out-of-memory killer or `docker kill` does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def pids(self) -> list[int]:
        """Return the process ids of master and workers."""
        assert self._process is not None
        return [self._process.pid, *self.workers()]

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        assert self._process is not None
        pid = self._process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def limit_file_size(self, limit: int) -> None:
        """Limit the size of files that its processes can write; -1 removes the limit."""
        for pid in self.pids():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, -1))

    def forwarder(self) -> int | None:
        """Return the id of the process that forwards, which holds the lock."""
        inode = (self.data_dir / "spool.forwarder.lock").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, place, *_ = line.replace("-> ", "").split()
            if kind == "FLOCK" and place.endswith(f":{inode}") and int(pid) in self.workers():
                return int(pid)
        return None

    def kill_forwarder(self) -> int:
        """Kill the process that forwards, and return its id."""
        wait_until(self.forwarder)
        forwarder = self.forwarder()
        assert forwarder
        os.kill(forwarder, signal.SIGKILL)
        return forwarder

    def get(self, path: str) -> tuple[int, str]:
        """Request a path, and return status and body; the status is 0 without a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def command(self, *words: str, check: bool = True) -> str:
        """Run `flask --app app …`, and return its output; with `check` it must succeed."""
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app", *words],
            cwd=self.log_file.parent,
            env=self.environment,
            capture_output=True,
            text=True,
            check=check,
            timeout=30,
        ).stdout

    @property
    def log(self) -> str:
        """The whole log so far."""
        return self.log_file.read_text()

    def waiting(self) -> int:
        """Count the events in the spool."""
        with contextlib.closing(sqlite3.connect(self.data_dir / "spool.sqlite3")) as connection:
            return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])

    def salts(self) -> list[str]:
        """Read the salts in the file."""
        with contextlib.closing(sqlite3.connect(self.data_dir / "salts.sqlite3")) as connection:
            return [salt for (salt,) in connection.execute("SELECT salt FROM salts")]

    def secrets_on_disk(self) -> list[str]:
        """List the files that hold an address, a token, or a salt outside the salts' own file."""
        salts_file = self.data_dir / "salts.sqlite3"
        salts = [salt.encode() for salt in self.salts()] if salts_file.exists() else []
        secrets_found = []
        for file in [*filter(Path.is_file, self.data_dir.rglob("*")), self.log_file]:
            content = file.read_bytes()
            secrets = [ADDRESS.encode(), TOKEN.encode()]
            secrets += [] if file.name.startswith(salts_file.name) else salts
            secrets_found += [f"{file.name}: {secret!r}" for secret in secrets if secret in content]
        return secrets_found
