"""Probe whether the process can serve: /, /info, /health and /ready."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from flask import Blueprint, Response

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from traffic_analytics.settings import Settings

_JSON = "application/json"


GOOD_FOR = timedelta(seconds=1)
"""How long stores that could be used are taken to be usable."""


def once(check: Callable[[], None]) -> Callable[[], None]:
    """Ask until the answer was good once. What all machines share, by its absence, must not put all out of service."""
    was_good = threading.Event()

    def check_once() -> None:
        if not was_good.is_set():
            check()
            was_good.set()

    return check_once


class Readiness:
    """Asks each store whether it can be used; the route is public, and each question costs a write to the disk."""

    def __init__(self, checks: list[Callable[[], None]], clock: Callable[[], datetime]) -> None:
        self._checks = checks
        self._clock = clock
        self._lock = threading.Lock()
        self._found_good: datetime | None = None

    def check(self) -> None:
        """Raise what a store raises that cannot be used."""
        with self._lock:
            now = self._clock()
            if self._found_good is not None and timedelta(0) <= now - self._found_good < GOOD_FOR:
                return
            for check in self._checks:
                check()
            self._found_good = now


def probes(settings: Settings, check: Callable[[], None]) -> Blueprint:
    """Return the routes that balancers and operators ask. `check` raises if this process cannot do its work."""
    routes = Blueprint("probes", __name__)

    @routes.get("/", provide_automatic_options=False)
    def hello() -> Response:
        return Response("Hello Ghost Traffic Analytics", content_type="text/plain; charset=utf-8")

    @routes.get("/info", provide_automatic_options=False)
    def info() -> Response:
        return Response(json.dumps({"build": settings.build_label}), content_type=_JSON)

    @routes.get("/health", provide_automatic_options=False)
    def health() -> Response:
        return Response('{"status":"ok"}', content_type=_JSON)

    @routes.get("/ready", provide_automatic_options=False)
    def ready() -> Response:
        check()
        return Response('{"status":"ready"}', content_type=_JSON)

    return routes
