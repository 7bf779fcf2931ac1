"""Post events to Tinybird's Events API and read the verdict from its response."""

from __future__ import annotations

import copy
import gzip
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec
import requests

from traffic_analytics.delivery.target import Reply, Verdict
from traffic_analytics.tinybird.transport import KeepAliveSession, failure_reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from requests import PreparedRequest

CONNECT_TIMEOUT = 1.0
"""Time limit for opening a connection, in seconds."""
READ_TIMEOUT = 4.0
"""Time limit for the response while browsers wait, in seconds; they give up after 5."""
BATCH_TIMEOUT = 30.0
"""Time limit for the response to a batch, in seconds; no client waits, and 5 MB are slow."""
GZIP_FROM = 2048
"""Smallest batch that is compressed on its way to another machine, in bytes."""

_VERDICTS = {
    400: Verdict.REFUSED,
    408: Verdict.LATER,
    413: Verdict.TOO_LARGE,
    422: Verdict.REFUSED,
    425: Verdict.LATER,
    429: Verdict.TOO_FAST,
}


def to_verdict(status: int) -> Verdict:
    """Map a status to the verdict on the events of a request."""
    if 200 <= status < 300:
        return Verdict.TAKEN
    if status >= 500:
        return Verdict.LATER
    # Redirects and the other 4xx reject the address or the token, not the events.
    return _VERDICTS.get(status, Verdict.WRONG_SETUP)


class Tinybird:
    """Post events over kept-alive connections."""

    NAME = "Tinybird"
    WRONG_SETUP = "Tinybird answers %s: check TINYBIRD_TRACKER_TOKEN and the region in PROXY_TARGET. Events are kept."

    def __init__(self, target: str, token: str | None, *, wait: bool, connections: int) -> None:
        self._url = events_url(target)
        self._token = token
        self._wait = wait
        self._session = KeepAliveSession(self._url, connections)
        self._prepared: dict[str, PreparedRequest] = {}

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None, *, wait: bool = False) -> Reply:
        """Send events while their browsers wait.

        `token` is the clients' and counts only if the service has none. `wait` requests a response that counts stored
        rows, independent of TINYBIRD_WAIT.
        """
        request = self._request(data_source, token)
        if wait and not self._wait:
            request.url = f"{request.url}&wait=true"
        if len(events) == 1:
            request.body = events[0]
        else:
            self._add_ndjson(request, events)
        return self._send(request, READ_TIMEOUT)

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        """Send events while no browser waits."""
        request = self._request(data_source, None)
        self._add_ndjson(request, events)
        return self._send(request, BATCH_TIMEOUT)

    def _add_ndjson(self, request: PreparedRequest, events: Sequence[bytes]) -> None:
        """Add events as NDJSON, compressed if the target is not on this machine or its network."""
        body = b"\n".join(events)
        request.headers["Content-Type"] = "application/x-ndjson"
        if len(body) >= GZIP_FROM and self._url.startswith("https:"):
            body = gzip.compress(body, compresslevel=1)
            request.headers["Content-Encoding"] = "gzip"
        request.body = body

    def _send(self, request: PreparedRequest, read_timeout: float) -> Reply:
        request.headers["Content-Length"] = str(len(request.body or b""))
        try:
            response = self._session.send(request, CONNECT_TIMEOUT, read_timeout)
        except (requests.RequestException, OSError) as error:
            return Reply(Verdict.LATER, failure_reason(error))
        verdict = to_verdict(response.status_code)
        counts = _json_object(response.content)
        return Reply(
            verdict,
            f"status {response.status_code}",
            # 203 to 299 mean the same to a browser, and some of them allow no body.
            response.status_code if response.status_code not in range(203, 300) else 202,
            response.content if counts is not None else b"{}",
            _rows(counts, "successful_rows") if verdict is Verdict.TAKEN else 0,
            _rows(counts, "quarantined_rows") if verdict is Verdict.TAKEN else 0,
            None if verdict is Verdict.TAKEN else parse_retry_after(response.headers),
        )

    def _request(self, data_source: str, token: str | None) -> PreparedRequest:
        """Copy the prepared request of a data source; preparing one costs more."""
        prepared = self._prepared.get(data_source)
        if prepared is None:
            headers = {"Content-Type": "application/json", "User-Agent": "traffic-analytics"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            wait = "&wait=true" if self._wait else ""
            prepared = requests.Request("POST", f"{self._url}?name={data_source}{wait}", headers).prepare()
            # A plain dictionary: copying requests' own costs 5 µs more for each event.
            prepared.headers = dict(prepared.headers)  # type: ignore[assignment]
            self._prepared[data_source] = prepared
        request = copy.copy(prepared)
        request.headers = prepared.headers.copy()
        if not self._token and token is not None:
            head, name, rest = str(request.url).partition("?name=" + data_source)
            request.url = f"{head}{name}&token={quote(token, safe='')}{rest}"
        return request


def events_url(target: str) -> str:
    """Return the URL for events: a target without a path gets the path of the Events API."""
    return target if urlsplit(target).path.strip("/") else f"{target.rstrip('/')}/v0/events"


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait: from Retry-After (seconds or a date), else from X-RateLimit-Reset."""
    value = headers.get("Retry-After") or headers.get("X-RateLimit-Reset") or ""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        # Relative to the response's own Date; the clocks of both machines may differ.
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(headers["Date"])).total_seconds())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None


def _rows(counts: dict[str, Any] | None, kind: str) -> int:
    rows = (counts or {}).get(kind, 0)
    return rows if isinstance(rows, int) else 0
