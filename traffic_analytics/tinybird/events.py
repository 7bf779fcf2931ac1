"""Tinybird takes events over HTTP, and its answers say what became of them."""

from __future__ import annotations

import gzip
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec
import requests

from traffic_analytics.delivery.target import Reply, Verdict
from traffic_analytics.tinybird.transport import LazySession, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest

CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 4.0  # the browser gives up after 5 seconds
BATCH_TIMEOUT = 30.0  # nobody waits for a batch, and 5 MB take their time
GZIP_FROM = 2048
"""Bytes from which a body is compressed on its way to another machine."""


_VERDICTS = {
    400: Verdict.REFUSED,
    408: Verdict.LATER,
    413: Verdict.TOO_LARGE,
    422: Verdict.REFUSED,
    425: Verdict.LATER,
    429: Verdict.TOO_FAST,
}


def verdict_of(status: int) -> Verdict:
    """Say what a status means for the events of a request."""
    if 200 <= status < 300:
        return Verdict.TAKEN
    if status >= 500:
        return Verdict.LATER
    # Redirects and the other 4xx speak of where and as whom we send, not of what.
    return _VERDICTS.get(status, Verdict.WRONG_SETUP)


class Tinybird:
    """The Events API, reached over kept-alive connections."""

    NAME = "Tinybird"
    WRONG_SETUP = "Tinybird answers %s: is TINYBIRD_TRACKER_TOKEN right, and PROXY_TARGET its region? Events are kept."

    def __init__(self, target: str, token: str | None, *, wait: bool, connections: int) -> None:
        self._url = events_url(target)
        self._token = token
        self._wait = wait
        self._session = LazySession(self._url, connections)
        self._prepared: dict[str, PreparedRequest] = {}

    def post(self, data_source: str, event: bytes, token: str | None = None, *, wait: bool = False) -> Reply:
        """Send one event while a browser waits for it.

        `token` is the sender's own and counts only if the service has none. `wait` asks for an answer that says what
        became of the event, whatever TINYBIRD_WAIT says.
        """
        request = self._request(data_source, token)
        if wait and not self._wait:
            request.url = f"{request.url}&wait=true"
        request.body = event
        request.headers["Content-Length"] = str(len(event))
        return self._send(request, READ_TIMEOUT)

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        """Send events as NDJSON, compressed if they leave this machine or its network."""
        body = b"\n".join(events)
        request = self._request(data_source, None)
        request.headers["Content-Type"] = "application/x-ndjson"
        if len(body) >= GZIP_FROM and self._url.startswith("https:"):
            body = gzip.compress(body, compresslevel=1)
            request.headers["Content-Encoding"] = "gzip"
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        return self._send(request, BATCH_TIMEOUT)

    def _send(self, request: PreparedRequest, read_timeout: float) -> Reply:
        try:
            response = self._session.send(request, CONNECT_TIMEOUT, read_timeout)
        except (requests.RequestException, OSError) as error:
            # Its words may quote the URL and thereby a token.
            return Reply(Verdict.LATER, str(error) if isinstance(error, NoAnswer) else type(error).__name__)
        verdict = verdict_of(response.status_code)
        counts = _json_object(response.content)
        return Reply(
            verdict,
            f"status {response.status_code}",
            # Only what a browser can be told together with a body; the others mean the same to it.
            response.status_code if response.status_code not in range(203, 300) else 202,
            response.content if counts is not None else b"{}",
            _rows(counts, "successful_rows") if verdict is Verdict.TAKEN else 0,
            _rows(counts, "quarantined_rows") if verdict is Verdict.TAKEN else 0,
            None if verdict is Verdict.TAKEN else retry_after(response.headers),
        )

    def _request(self, data_source: str, token: str | None) -> PreparedRequest:
        """Return a request of the caller's own; preparing one costs more than copying it."""
        prepared = self._prepared.get(data_source)
        if prepared is None:
            headers = {"Content-Type": "application/json", "User-Agent": "traffic-analytics"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            wait = "&wait=true" if self._wait else ""
            prepared = requests.Request("POST", f"{self._url}?name={data_source}{wait}", headers).prepare()
            self._prepared[data_source] = prepared
        request = requests.PreparedRequest()
        request.method = prepared.method
        request.url = prepared.url
        request.headers = dict(prepared.headers)  # type: ignore[assignment] # a copy that costs less
        request._cookies = prepared._cookies  # type: ignore[attr-defined] # noqa: SLF001 - as its copy() does
        if not self._token and token is not None:
            head, question, query = str(request.url).partition("?name=" + data_source)
            request.url = f"{head}{question}&token={quote(token, safe='')}{query}"
        return request


def events_url(target: str) -> str:
    """Return where events are posted: a bare host means its Events API, anything with a path is taken at its word."""
    return target if urlsplit(target).path.strip("/") else f"{target.rstrip('/')}/v0/events"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds Tinybird asks to wait: Retry-After (seconds or a date), else X-RateLimit-Reset."""
    asked = headers.get("Retry-After") or headers.get("X-RateLimit-Reset") or ""
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        # The answer's own Date rather than our clock: the two need not agree.
        return max(0.0, (parsedate_to_datetime(asked) - parsedate_to_datetime(headers["Date"])).total_seconds())
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
