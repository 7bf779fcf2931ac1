"""Run the service in this process, with a settable clock and requests-mock in place of Tinybird."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests_mock

from traffic_analytics.salts.store import MemorySalts, SaltStore
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app

GOLDEN = Path(__file__).parents[1] / "golden"
SITE = "940b73e9-4952-4752-b23d-9486f999c47e"
OTHER_SITE = "4c1dd2c0-63b3-4d35-ad1b-9b40e15f9f0e"
TARGET = "http://tinybird.example/v0/events"
NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def golden(name: str) -> list[dict[str, Any]]:
    """Read the cases of a golden file."""
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


def page_hit(**changes: Any) -> dict[str, Any]:
    """Build the body of a valid hit; changes apply to the payload."""
    payload = {
        "user-agent": FIREFOX,
        "locale": "en-US",
        "location": "US",
        "parsedReferrer": {"source": None, "medium": None, "url": None},
        "pathname": "/about/",
        "href": "https://blog.example/about/",
        "site_uuid": SITE,
        "post_uuid": "undefined",
        "post_type": "null",
        "member_uuid": "undefined",
        "member_status": "undefined",
    }
    return {
        "timestamp": "2026-11-22T12:30:15.000Z",
        "action": "page_hit",
        "version": "1",
        "payload": payload | changes,
    }


def run(service: Any, *arguments: str) -> Any:
    """Run a command of the service's app."""
    return service.app.test_cli_runner().invoke(args=arguments)


class Service:
    """The service with a settable clock and requests-mock in place of Tinybird."""

    def __init__(
        self,
        data_dir: Path,
        tinybird: requests_mock.Mocker,
        salts: SaltStore | None = None,
        span_processor: Any = None,
        **environment: str,
    ) -> None:
        self.now = NOW
        self.data_dir = data_dir
        self.tinybird = tinybird
        self.salts = salts or MemorySalts()  # not used if the environment names another store
        environment = {
            "PROXY_TARGET": TARGET,
            "TINYBIRD_TRACKER_TOKEN": "test-token",
            "DATA_DIR": str(data_dir),
            "REQUEST_TOKENS": "" if environment.get("TINYBIRD_TRACKER_TOKEN", "test-token") else "true",
            **environment,
        }
        self.app = create_app(
            Settings.from_env(environment),
            clock=lambda: self.now,
            salt_store=None if "SALT_STORE_TYPE" in environment else self.salts,
            span_processor=span_processor,
        )
        self.client = self.app.test_client()

    def hit(self, body: Any = None, target: str = "/api/v1/page_hit?name=analytics_events", **kwargs: Any) -> Any:
        """Post a hit as a browser would."""
        headers = {"x-site-uuid": SITE, "User-Agent": FIREFOX, "Content-Type": "application/json"}
        headers |= kwargs.pop("headers", {})
        data = body if isinstance(body, bytes) else json.dumps(page_hit() if body is None else body)
        return self.client.post(
            target, data=data, headers={k: v for k, v in headers.items() if v is not None}, **kwargs
        )

    @property
    def events(self) -> list[dict[str, Any]]:
        """Events sent to Tinybird."""
        return [json.loads(request.body) for request in self.tinybird.request_history]


class Log:
    """Log of a service that was started in the test's body: pytest captures the output of fixtures separately."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    @property
    def text(self) -> str:
        """The whole output, standard error included."""
        self._text += "".join(self._capsys.readouterr())
        return self._text

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records, with LOG_FORMAT json or gcp."""
        return [json.loads(line) for line in self.text.splitlines()]


def all_rows_fit(request: Any, _context: Any) -> dict[str, int]:
    """Respond as Tinybird does if every line fits its table."""
    return {"successful_rows": len(request.body.splitlines()), "quarantined_rows": 0}
