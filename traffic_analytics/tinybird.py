"""Tinybird takes events over HTTP, and its answers say what became of them."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter

from traffic_analytics.errors import UpstreamFailed

if TYPE_CHECKING:
    from requests import PreparedRequest

CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 4.0  # the browser gives up after 5 seconds


class Taken(NamedTuple):
    """Tinybird's word that it has the events: its status and its JSON."""

    status: int
    body: bytes


class Tinybird:
    """The Events API, reached over kept-alive connections.

    Nothing is opened before the first event, so an instance made before a fork serves every process after it.
    """

    def __init__(self, target: str, token: str | None, *, wait: bool, connections: int) -> None:
        self._url = events_url(target)
        self._token = token
        self._wait = wait
        self._connections = connections
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        self._transport: dict[str, Any] = {}
        self._prepared: dict[str, PreparedRequest] = {}

    def post(self, data_source: str, events: bytes, token: str | None = None) -> Taken:
        """Send events (JSON objects, one a line) to a data source.

        `token` is the sender's own and counts only if the service has none. Raises UpstreamFailed.
        """
        session = self._session or self._start_session()
        request = self._request(data_source, token)
        request.body = events
        request.headers["Content-Length"] = str(len(events))
        try:
            response = session.send(
                request, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), allow_redirects=False, **self._transport
            )
            body = response.content
        except (requests.RequestException, OSError) as error:
            raise UpstreamFailed(type(error).__name__) from None  # its words may quote the URL and thereby a token
        if not 200 <= response.status_code < 300:
            raise UpstreamFailed(f"status {response.status_code}", response.status_code)
        return Taken(response.status_code, body if _is_json(body) else b"{}")

    def _request(self, data_source: str, token: str | None) -> PreparedRequest:
        """Return a request of this thread's own; preparing one costs more than sending it."""
        prepared = self._prepared.get(data_source)
        if prepared is None:
            headers = {"Content-Type": "application/json"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            prepared = requests.Request("POST", f"{self._url}?name={data_source}", headers).prepare()
            self._prepared[data_source] = prepared
        request = prepared.copy()
        if not self._token and token is not None:
            request.url = f"{request.url}&token={quote(token, safe='')}"
        if self._wait:
            request.url = f"{request.url}&wait=true"
        return request

    def _start_session(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                session = requests.Session()
                adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self._connections, pool_block=False)
                session.mount("http://", adapter)
                session.mount("https://", adapter)
                # HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE: read once, not for each event.
                self._transport = dict(session.merge_environment_settings(self._url, {}, False, None, None))
                self._session = session
            return self._session


def events_url(target: str) -> str:
    """Return where events are posted: a bare host means its Events API, anything with a path is taken at its word."""
    return target if urlsplit(target).path.strip("/") else f"{target.rstrip('/')}/v0/events"


def _is_json(body: bytes) -> bool:
    with contextlib.suppress(ValueError, RecursionError):
        msgspec.json.decode(body)
        return True
    return False
