"""Probe whether the process can serve: /, /info, /health and /ready."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from traffic_analytics.settings import Settings

_JSON = "application/json"


FORWARDED_ENTRIES = "x-forwarded-for-entries"
"""Header of /info: the number of entries in X-Forwarded-For, by which `doctor` counts the proxies in front."""
FRESH_FOR = timedelta(seconds=1)
"""Time for which a successful check counts."""


def once(check: Callable[[], None]) -> Callable[[], None]:
    """Return a check that runs until it has succeeded once, and never again."""
    has_succeeded = threading.Event()

    def check_once() -> None:
        if not has_succeeded.is_set():
            check()
            has_succeeded.set()

    return check_once


class Readiness:
    """Check each store, at most once a second: the route is public, and each check costs a write to the disk."""

    def __init__(self, checks: list[Callable[[], None]], clock: Callable[[], datetime]) -> None:
        self._checks = checks
        self._clock = clock
        self._lock = threading.Lock()
        self._succeeded_at: datetime | None = None

    def check(self) -> None:
        """Check all stores; raises the error of the first that cannot be used."""
        with self._lock:
            now = self._clock()
            if self._succeeded_at is not None and timedelta(0) <= now - self._succeeded_at < FRESH_FOR:
                return
            for check in self._checks:
                check()
            self._succeeded_at = now


def probes(settings: Settings, check: Callable[[], None]) -> Blueprint:
    """Return the routes for balancers and operators. `check` raises if this process cannot do its work."""
    routes = Blueprint("probes", __name__)

    @routes.get("/")
    def hello() -> Response:
        return Response("Hello Ghost Traffic Analytics", content_type="text/plain; charset=utf-8")

    @routes.get("/info")
    def info() -> Response:
        forwarded_for = request.headers.get("X-Forwarded-For")
        entries = forwarded_for.count(",") + 1 if forwarded_for else 0
        headers = {FORWARDED_ENTRIES: str(entries)}
        return Response(json.dumps({"build": settings.build_label}), headers=headers, content_type=_JSON)

    @routes.get("/health")
    def health() -> Response:
        return Response('{"status":"ok"}', content_type=_JSON)

    @routes.get("/ready")
    def ready() -> Response:
        check()
        return Response('{"status":"ready"}', content_type=_JSON)

    return routes
