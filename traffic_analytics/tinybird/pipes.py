"""Query the Pipes API of Tinybird or of the store with the client's own token."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import requests

from traffic_analytics.tinybird.events import parse_retry_after
from traffic_analytics.tinybird.transport import KeepAliveSession, failure_reason

if TYPE_CHECKING:
    from collections.abc import Callable


CONNECT_TIMEOUT = 2.0
"""Time limit for opening a connection, in seconds."""
READ_TIMEOUT = 25.0
"""Time limit for the whole response, in seconds; Ghost gives up after 35."""
RETRY_WITHIN = 1.0
"""Time within which a failed query is sent once more, in seconds."""
USER_AGENT = "traffic-analytics"


class Reply(NamedTuple):
    """Status and body of the target's response, or 502 and 504 without one. `reason` is fit for logs: no token."""

    status: int
    body: bytes
    reason: str
    retry_after: float | None = None

    @property
    def is_good(self) -> bool:
        """Return whether the query succeeded."""
        return self.status == 200

    @property
    def is_transient(self) -> bool:
        """Return whether the same query may succeed later; Tinybird answers 408 if a query ran too long."""
        return self.status in (408, 429) or self.status >= 500


class Pipes:
    """Query pipes over kept-alive connections."""

    def __init__(self, target: str, *, connections: int, monotonic: Callable[[], float]) -> None:
        self._target = target
        self._monotonic = monotonic
        self._session = KeepAliveSession(target, connections)

    def get(self, path: str, token: str) -> Reply:
        """Send a query: of the client's request only the path and the token, and the token never in the URL."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": USER_AGENT}
        if self._target.startswith("https:"):  # on this machine or its network, compression costs more than it saves
            headers["Accept-Encoding"] = "gzip"
        request = requests.Request("GET", self._target + path, headers).prepare()
        retry_until = self._monotonic() + RETRY_WITHIN
        while True:
            try:
                response = self._session.send(request, CONNECT_TIMEOUT, READ_TIMEOUT)
            except (requests.Timeout, TimeoutError) as error:
                return _failure(504, "the statistics did not come in time", failure_reason(error))
            except (requests.RequestException, OSError) as error:
                if self._monotonic() < retry_until:
                    # The target may close a kept-alive connection just as it is used; a query can be repeated.
                    retry_until = 0.0
                    continue
                return _failure(502, "the statistics cannot be reached", failure_reason(error))
            return _to_reply(response)


def _to_reply(response: requests.Response) -> Reply:
    status = response.status_code
    try:
        msgspec.json.decode(response.content, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        if status == 200 or not 400 <= status < 600:
            return _failure(502, "the target's response is not JSON", f"status {status}, not JSON")
        body = _error_body(f"status {status}")
    else:
        if status != 200 and not 400 <= status < 600:
            return _failure(502, "the target's response has an unexpected status", f"status {status}")
        body = response.content
    return Reply(status, body, f"status {status}", None if status == 200 else parse_retry_after(response.headers))


def _failure(status: int, message: str, reason: str) -> Reply:
    return Reply(status, _error_body(message), reason)


def _error_body(message: str) -> bytes:
    return msgspec.json.encode({"error": message})
