"""Serve several hits in one turn, as the service's own gunicorn worker does."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from werkzeug.test import EnvironBuilder

from tests.support.app import FIREFOX, SITE, page_hit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HIT = "/api/v1/page_hit?name=analytics_events"


class Reply(NamedTuple):
    """Status and body that a browser received."""

    status: int
    json: Any


class Request:
    """A hit of one turn, whose response may not be ready yet."""

    def __init__(self, app: Any, target: str = HIT, pathname: str = "/about/", **headers: str) -> None:
        body = json.dumps(page_hit(pathname=pathname, event_id=pathname))
        names = {"x-site-uuid": SITE, "User-Agent": FIREFOX, "Content-Type": "application/json", **headers}
        environ = EnvironBuilder(target, method="POST", data=body, headers=list(names.items())).get_environ()
        self._started: list[str] = []
        self.response = app.wsgi_app(environ, self._start)

    @property
    def is_pending(self) -> bool:
        """Return whether the response is not ready."""
        return hasattr(self.response, "on_ready")

    def on_ready(self, callback: Callable[[], object]) -> None:
        """Await the response."""
        if self.is_pending:
            self.response.on_ready(callback)
        else:
            callback()

    def read(self) -> Reply:
        """Read the response."""
        body = b"".join(self.response)
        if self.is_pending:
            self.response.close()
        return Reply(int(self._started[0][:3]), json.loads(body))

    def _start(self, status: str, _headers: Any, _error: Any = None) -> None:
        self._started.append(status)


def serve_together(app: Any, hits: Sequence[dict[str, str]]) -> list[Reply]:
    """Call the app for all hits, then await all responses; return them in the order of the hits."""
    requests = [Request(app, **hit) for hit in hits]
    ready: list[Request] = []
    for request in requests:
        request.on_ready(partial(ready.append, request))
    assert sorted(map(id, ready)) == sorted(map(id, requests)), "each is called back once"
    return [request.read() for request in requests]
