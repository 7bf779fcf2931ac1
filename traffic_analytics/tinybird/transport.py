"""Requests travel over kept-alive connections, and an answer must be whole by a deadline, however slowly it drips."""

from __future__ import annotations

import http.client
import io
import threading
import time
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from requests import PreparedRequest


_MOST_HEADERS, _LONGEST_HEADER = 100, 65_536
SEND_TIMEOUT = 30.0
"""Seconds that a whole request may take to leave."""


class LazySession:
    """A session towards one server that opens with the first request.

    So an instance made before a fork serves every process after it, each with connections of its own.
    """

    def __init__(self, url: str, connections: int) -> None:
        self._url = url
        self._connections = connections
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        self._environment: dict[str, Any] = {}

    def send(self, request: PreparedRequest, connect: float, read: float) -> requests.Response:
        """Send a request with timeouts in seconds; redirects are not followed. Raises requests' exceptions."""
        session = self._session or self._open()
        return session.send(request, timeout=(connect, read), allow_redirects=False, **self._environment)

    def _open(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                session = requests.Session()
                session.mount("http://", DeadlineAdapter(self._connections))
                session.mount("https://", DeadlineAdapter(self._connections))
                # HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE: read once, not for each request.
                self._environment = dict(session.merge_environment_settings(self._url, {}, False, None, None))
                self._session = session
            return self._session


class NoAnswer(requests.ConnectionError):
    """There was no whole answer; the message is the name of the cause and quotes nothing."""


class DeadlineAdapter(HTTPAdapter):
    """requests' adapter with two differences, also through proxies.

    The read timeout covers the whole answer: requests' own starts anew with each byte. And `send` does without what
    these requests have no use for: redirects, cookies, streaming, guessing of encodings.
    """

    def __init__(self, connections: int) -> None:
        self._pools: dict[str, Any] = {}
        super().__init__(pool_connections=2, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make connections of our own kind."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Make connections of our own kind through proxies, too."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request and read its whole answer. Raises requests' exceptions."""
        if proxies or stream:
            return super().send(request, stream, timeout, verify, cert, proxies)
        assert request.url is not None  # noqa: S101 - a prepared request has one
        origin, path = _split(request.url)
        pool: Any = self._pools.get(origin)
        if pool is None:
            pool = self.get_connection_with_tls_context(request, verify, cert=cert)
            self._pools[origin] = pool
        connect, read = timeout
        try:
            raw = pool.urlopen(
                str(request.method),
                path,
                body=request.body,
                headers=request.headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=Timeout(connect=connect, read=read),
            )
        except (HTTPError, OSError) as error:
            raise NoAnswer(type(error).__name__) from error
        response = requests.Response()
        response.status_code = raw.status
        response.headers = raw.headers  # knows no case either
        response.url = request.url
        response.request = request
        response._content = raw.data  # noqa: SLF001 - as HTTPAdapter.build_response would, after reading
        response._content_consumed = True  # type: ignore[attr-defined] # noqa: SLF001
        return response


def _split(url: str) -> tuple[str, str]:
    scheme_end = url.index("://") + 3
    path = url.find("/", scheme_end)
    return url[:path], url[path:]


class _DeadlineReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw  # keeps the socket open until it is closed, also after `Connection: close`
        self._sock = sock
        timeout = sock.gettimeout()
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._deadline is not None:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the answer was not whole in time")
            self._sock.settimeout(remaining)
        return self._raw.readinto(buffer) or 0

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """http.client's answer, with headers read as lines: reading them as an e-mail costs a tenth of a hit."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock))

    def begin(self) -> None:
        status = 100
        while 100 <= status < 200:  # such as 103 Early Hints: the answer is yet to come
            version, status, reason = self._read_status()  # type: ignore[attr-defined] # its parts have no stubs
            headers = _read_headers(self.fp)
        self.code = self.status = status
        self.reason = reason.strip()
        self.version = 10 if version == "HTTP/1.0" else 11
        self.headers = self.msg = headers
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        length = headers.get("content-length", "")
        if status in (204, 304):
            self.length = 0
        else:
            self.length = int(length) if length.isascii() and length.isdigit() and not self.chunked else None
        self.will_close = self._check_close() or not (self.chunked or self.length is not None)  # type: ignore[attr-defined]


def _read_headers(stream: io.BufferedReader) -> http.client.HTTPMessage:
    headers = http.client.HTTPMessage()
    for _ in range(_MOST_HEADERS):
        line = stream.readline(_LONGEST_HEADER + 1)
        if line in (b"\r\n", b"\n", b""):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if len(line) > _LONGEST_HEADER or not colon:
            raise http.client.HTTPException("a header that is none")
        headers[name] = value.strip()
    raise http.client.HTTPException("too many headers")


class _OneWrite:
    """Sends headers and body together: two writes cost two packets, and wake the other side twice.

    A large body may take as long to leave as an answer to come; urllib3 would allow it the time of a connect.
    """

    response_class: Any = _Answer
    sock: Any
    _held: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        held: list[bytes] = []
        self._held = held
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._held = None
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        self.sock.settimeout(SEND_TIMEOUT)
        self.send(b"".join(held))

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._held.append(data)


class _Connection(_OneWrite, HTTPConnection):
    pass


class _TlsConnection(_OneWrite, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
