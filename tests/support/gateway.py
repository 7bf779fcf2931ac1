"""The statistics gateway as Ghost's dashboard sees it, and the targets in front of which it is tested."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import requests_mock

from tests.support.app import NOW, SITE, TARGET
from tests.support.processes import wait_until
from tests.support.tokens import ADMIN, sign
from traffic_analytics.salts.store import MemorySalts
from traffic_analytics.settings import Settings
from traffic_analytics.statistics.answer_cache import AnswerCache
from traffic_analytics.wiring import create_app

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flask import Flask

    from tests.support.app import Service

STATS = "http://stats.example"
STATIC = "p.eyJ1IjogIndoZXRoZXIifQ.signature"
ACTIVE = "/v0/pipes/api_active_visitors.json"


def ghost_token(
    *,
    pipes: tuple[str, ...] = ("api_active_visitors", "api_kpis"),
    site: str = SITE,
    secret: str = ADMIN,
    **claims: Any,
) -> str:
    """Sign the token that Ghost signs for a dashboard."""
    scopes = [{"type": "PIPES:READ", "resource": pipe, "fixed_params": {"site_uuid": site}} for pipe in pipes]
    expiry = int((NOW + timedelta(hours=3)).timestamp())
    return sign(
        {"workspace_id": "w", "name": f"tinybird-jwt-{site}", "exp": expiry, "scopes": scopes, **claims}, secret
    )


def rows(*values: object) -> dict[str, Any]:
    """Return the body of a response of the target."""
    return {"meta": [], "data": [{"active_visitors": value} for value in values], "rows": len(values)}


class Dashboard:
    """Query the service as Ghost's dashboard does, in front of a target that requests-mock plays."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.target = service.tinybird
        self.respond_with(json=rows(1))

    def respond_with(self, *responses: dict[str, Any], **response: Any) -> None:
        """Set the target's next responses; it repeats the last."""
        self.target.get(requests_mock.ANY, list(responses) or [response])

    def query(self, path: str = ACTIVE, token: str | None = STATIC, headers: dict[str, str] | None = None) -> Any:
        authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.service.app.test_client().get(path, headers=(headers or {}) | authorization)

    def advance(self, seconds: float) -> None:
        self.service.now += timedelta(seconds=seconds)

    @property
    def requests(self) -> list[Any]:
        """List the queries that the target received."""
        return [each for each in self.target.request_history if each.method == "GET"]


StartGateway = Callable[..., Dashboard]
OpenCache = Callable[[], AnswerCache]


class Clock:
    """Show a time that only the test changes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Target(ThreadingHTTPServer):
    """A real server in the target's place; it responds once `go` is set."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, go: threading.Event) -> None:
        self.paths: list[str] = []
        self.go = go
        self.response = (200, json.dumps(rows(7)).encode())

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(handler) -> None:  # noqa: N805
                self.paths.append(handler.path)
                self.go.wait(10)
                status, body = self.response
                handler.send_response(status)
                handler.send_header("content-length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def app_for(url: str, data_dir: Path, **environment: str) -> Flask:
    """Make a service whose statistics come from `url`, with a clock that runs."""
    environment = {
        "PROXY_TARGET": TARGET,
        "TINYBIRD_TRACKER_TOKEN": "p.token",
        "DATA_DIR": str(data_dir),
        "STATS_TARGET": url,
        **environment,
    }
    return create_app(Settings.from_env(environment), salt_store=MemorySalts())


def query_together(app: Flask, target: Target, queries: Sequence[tuple[str, str]]) -> list[Any]:
    """Send queries (path, token) from a thread each; the target responds once all are on their way."""
    responses: list[Any] = []

    def query(path: str, token: str) -> None:
        responses.append(app.test_client().get(path, headers={"Authorization": f"Bearer {token}"}))

    threads = [threading.Thread(target=query, args=each) for each in queries]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(target.paths) == 1)
    time.sleep(0.2)  # for those that should wait for the first
    target.go.set()
    for thread in threads:
        thread.join(10)
    return responses
