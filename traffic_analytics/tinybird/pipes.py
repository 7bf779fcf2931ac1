"""Statistics come from the Pipes API of Tinybird or of the store, with the caller's own token."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import requests

from traffic_analytics.tinybird.events import retry_after
from traffic_analytics.tinybird.transport import LazySession

if TYPE_CHECKING:
    from collections.abc import Callable


CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 25.0  # Ghost gives up after 35 seconds
USER_AGENT = "traffic-analytics"


class Reply(NamedTuple):
    """The target's answer, or 502 and 504 if there is none. `reason` is fit for logs: it holds no token."""

    status: int
    body: bytes
    reason: str
    retry_after: float | None = None

    @property
    def is_good(self) -> bool:
        """Say whether this is what was asked for."""
        return self.status == 200

    @property
    def is_passing(self) -> bool:
        """Say whether the same question may be answered later: 408 is how Tinybird says that a query took too long."""
        return self.status in (408, 429) or self.status >= 500


class Pipes:
    """The Pipes API, reached over kept-alive connections of its own."""

    def __init__(self, target: str, *, connections: int, monotonic: Callable[[], float]) -> None:
        self._target = target
        self._monotonic = monotonic
        self._session = LazySession(target, connections)

    def get(self, path: str, token: str) -> Reply:
        """Ask. Nothing of the caller's request travels but the path and the token, and that never in the URL."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": USER_AGENT}
        if self._target.startswith("https:"):  # on this machine or its network, compressing costs more than it saves
            headers["Accept-Encoding"] = "gzip"
        request = requests.Request("GET", self._target + path, headers).prepare()
        again_until = self._monotonic() + 1.0
        while True:
            try:
                response = self._session.send(request, CONNECT_TIMEOUT, READ_TIMEOUT)
            except (requests.RequestException, OSError) as error:
                if isinstance(error, requests.Timeout | TimeoutError) or "Timeout" in str(error):
                    return _no_answer(504, "the statistics did not come in time", type(error).__name__)
                if self._monotonic() < again_until:
                    # A kept connection may be closed just as it is used again; asking twice changes nothing there.
                    again_until = 0.0
                    continue
                return _no_answer(502, "the statistics cannot be reached", type(error).__name__)
            return _reply(response)


def _reply(response: requests.Response) -> Reply:
    status = response.status_code
    try:
        msgspec.json.decode(response.content, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        if status == 200 or not 400 <= status < 600:
            return _no_answer(502, "the statistics' answer is not JSON", f"status {status}, not JSON")
        body = _error(f"status {status}")
    else:
        if status != 200 and not 400 <= status < 600:
            return _no_answer(502, "the statistics' answer is not understood", f"status {status}")
        body = response.content
    return Reply(status, body, f"status {status}", None if status == 200 else retry_after(response.headers))


def _no_answer(status: int, message: str, reason: str) -> Reply:
    return Reply(status, _error(message), reason)


def _error(message: str) -> bytes:
    return msgspec.json.encode({"error": message})
