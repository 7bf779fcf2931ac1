"""The service with a dashboard, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.app import Service
from tests.support.tokens import ADMIN

if TYPE_CHECKING:
    from pathlib import Path

    import requests_mock

KEY = "an-access-key-that-only-these-tests-know"
OWN_PAGE = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
STATS = "http://stats.example"
ON = {"DASHBOARD": "true", "STATS_TARGET": STATS, "TINYBIRD_ADMIN_TOKEN": ADMIN}


class Dashboard(Service):
    """The service with a dashboard; `key=None` leaves out the access key."""

    def __init__(
        self, data_dir: Path, tinybird: requests_mock.Mocker, key: str | None = KEY, **environment: str
    ) -> None:
        access = {"LISTEN_HOST": "127.0.0.1"} if key is None else {"DASHBOARD_KEY": key}
        super().__init__(data_dir, tinybird, None, None, **ON, **access, **environment)

    def log_in(self, key: str = KEY, **headers: str) -> Any:
        """Send the form of the login page."""
        return self.client.post("/dashboard/login", data={"key": key}, headers=OWN_PAGE | headers)

    def get(self, path: str, **headers: str) -> Any:
        """Request a path below /dashboard/."""
        return self.client.get(f"/dashboard/{path}", headers=headers)

    def record_counts(self) -> None:
        """Write the counts of hits, as the chore of a worker process does every few seconds."""
        chores = self.app.extensions["traffic_analytics"]._chores
        next(tick for name, tick, _finish in chores if name == "counts")()

    def command(self, *words: str) -> Any:
        """Run `flask --app app dashboard …`."""
        return self.app.test_cli_runner().invoke(args=["dashboard", *words])
