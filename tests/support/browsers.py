"""Post hits as browsers do, each with an event id of its own, and collect their outcomes."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.support.app import FIREFOX, SITE, page_hit
from tests.support.processes import wait_until
from tests.support.service import ADDRESS

if TYPE_CHECKING:
    from types import TracebackType

TARGET = "/api/v1/page_hit?name=analytics_events"
_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": FIREFOX,
    "x-site-uuid": SITE,
    "X-Forwarded-For": ADDRESS,
}


class Outcome(NamedTuple):
    """The response to a hit: its status (0: none), and after how many seconds it came."""

    event_id: str
    status: int
    seconds: float
    headers: dict[str, str]
    at: float = 0.0
    body: bytes = b""

    @property
    def accepted(self) -> bool:
        """Return whether the service promised to deliver the hit."""
        return 200 <= self.status < 300


class Browser:
    """Connection, kept alive as long as the service allows."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)

    def hit(self, target: str = TARGET, *, site: str = SITE, **payload: Any) -> Outcome:
        """Post one hit."""
        event_id = str(payload.pop("event_id", uuid.uuid4()))
        body = json.dumps(page_hit(event_id=event_id, **payload))
        started = time.monotonic()
        status, headers, answer = 0, {}, b""
        try:
            self._connection.request("POST", target, body, _HEADERS | {"x-site-uuid": site})
            response = self._connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            answer = response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            self.close()
        return Outcome(event_id, status, time.monotonic() - started, headers, started, answer)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def hit(port: int, count: int = 1, target: str = TARGET, **payload: Any) -> list[Outcome]:
    """Post hits one after the other."""
    browser = Browser(port)
    try:
        return [browser.hit(target, **payload) for _ in range(count)]
    finally:
        browser.close()


def hit_together(port: int, count: int, **payload: Any) -> list[Outcome]:
    """Post hits all at the same time."""
    with Load(port, count, hits_each=1, **payload) as load:
        return load.wait()


class Load:
    """Post hits from several browsers until the block ends, also after hits that got no response."""

    def __init__(
        self,
        port: int,
        browsers: int = 8,
        *,
        hits_each: int = 1_000_000,
        pause: float = 0.0,
        target: str = TARGET,
        **payload: Any,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._port = port
        self._hits_each = hits_each
        self._pause = pause
        self._target = target
        self._payload = payload
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._browse) for _ in range(browsers)]

    def accepted(self) -> set[str]:
        """Return the event ids of the hits that got a 2xx so far."""
        return {each.event_id for each in list(self.outcomes) if each.accepted}

    def wait_for_more(self, count: int, timeout: float = 20.0) -> None:
        """Return once this many more hits are accepted."""
        before = len(self.accepted())
        wait_until(lambda: len(self.accepted()) >= before + count, timeout)

    def wait(self) -> list[Outcome]:
        """Return the outcomes once every hit has one."""
        for thread in self._threads:
            thread.join()
        return self.outcomes

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self.wait()

    def _browse(self) -> None:
        browser = Browser(self._port)
        for _ in range(self._hits_each):
            if self._stop.is_set():
                break
            outcome = browser.hit(self._target, **self._payload)
            self.outcomes.append(outcome)
            self._stop.wait(self._pause if outcome.status else max(self._pause, 0.02))
        browser.close()
