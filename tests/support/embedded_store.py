"""Run the embedded store as operators do, and query it through the service."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import jwt
import requests

from tests.support.processes import COVERAGE, ROOT, free_port, wait_until
from tests.support.service import TOKEN

if TYPE_CHECKING:
    from pathlib import Path

ADMIN = "p.the-admin-token-of-these-tests"


class EmbeddedStore:
    """Store on one directory; after its end it can be started again, on the same port."""

    def __init__(self, data_dir: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = data_dir.with_name(data_dir.name + ".log")
        self.environment = {
            **COVERAGE,
            "PYTHONPATH": str(ROOT),
            "STORE_BIND": f"127.0.0.1:{port}",
            "STORE_DATA_DIR": str(data_dir),
            "STORE_ADMIN_TOKEN": ADMIN,
            "STORE_TRACKER_TOKEN": TOKEN,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it responds."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "analytics_store" / "gunicorn.conf.py")],
                cwd=self.log_file.parent,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self.answers, 30)

    def answers(self) -> bool:
        """Return whether it responds."""
        assert self._process is not None
        assert self._process.poll() is None, self.log_file.read_text()
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.ConnectionError:
            return False

    def kill(self) -> None:
        """Kill it without a warning."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def event_ids(self) -> list[str]:
        """Return the event_id of every hit that it has stored."""
        response = requests.get(
            f"{self.url}/v0/store/export?name=analytics_events",
            headers={"Authorization": f"Bearer {ADMIN}"},
            timeout=60,
        )
        response.raise_for_status()
        return [json.loads(line)["payload"]["event_id"] for line in response.text.splitlines()]


def ghost_token(site: str, *pipes: str, secret: str = ADMIN, expires_in: float = 3600.0) -> str:
    """Sign a token as Ghost does for its dashboard."""
    scopes = [{"type": "PIPES:READ", "resource": pipe, "fixed_params": {"site_uuid": site}} for pipe in pipes]
    claims = {
        "workspace_id": "self-hosted",
        "name": f"tinybird-jwt-{site}",
        "exp": int(time.time() + expires_in),  # noqa: TID251 - the clock of both processes
        "scopes": scopes,
    }
    return jwt.encode(claims, secret.encode().ljust(32, b"\0"), algorithm="HS256")


def ask(port: int, pipe: str, token: str, **parameters: Any) -> requests.Response:
    """Query the service for statistics as Ghost's dashboard does."""
    return requests.get(
        f"http://127.0.0.1:{port}/.ghost/analytics/v0/pipes/{pipe}.json",
        params=parameters,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
