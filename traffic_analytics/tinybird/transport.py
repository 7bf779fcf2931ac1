"""Send HTTP requests over kept-alive connections, with a deadline for the whole response.

docs/develop/decisions/0007-own-http-transport-to-tinybird.md has the reasons and the measurement.
"""

from __future__ import annotations

import http.client
import io
import re
import time
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as PoolTimeout
from urllib3.util import Timeout

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from requests import PreparedRequest


MAX_HEADERS = 100
MAX_LINE = 65_536
"""Length of the longest status line or header, in bytes."""
SEND_TIMEOUT = 30.0
"""Time limit for sending a whole request, in seconds."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) +([1-9][0-9][0-9])(?:[ \t]([^\r\n]*))?\r?\n")


class NoResponse(requests.ConnectionError):
    """No complete response arrived; the message is the cause's class name and quotes nothing."""


class ResponseTimeout(NoResponse, requests.Timeout):
    """No complete response arrived in time."""


class KeepAliveSession:
    """Keep connections to one server alive.

    A connection opens with the first request, so a process that was forked before it has connections of its own.
    """

    def __init__(self, url: str, connections: int) -> None:
        self._session = requests.Session()
        self._session.mount("http://", DeadlineAdapter(connections))
        self._session.mount("https://", DeadlineAdapter(connections))
        # HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE: reading them for each request would cost more than sending it.
        self._environment: dict[str, Any] = dict(
            self._session.merge_environment_settings(url, {}, False, None, None),
        )

    def send(self, request: PreparedRequest, connect: float, read: float) -> requests.Response:
        """Send a request with timeouts in seconds; do not follow redirects. Raises requests' exceptions."""
        return self._session.send(request, timeout=(connect, read), allow_redirects=False, **self._environment)


class DeadlineAdapter(HTTPAdapter):
    """Apply the read timeout to the whole response; requests' own starts anew with each byte.

    `send` also omits what costs CPU and is not needed: redirects, cookies, streaming, detection of encodings. Requests
    through a proxy use requests' own code, with the same deadline.
    """

    def __init__(self, connections: int) -> None:
        self._pools: dict[str, Any] = {}
        super().__init__(pool_connections=2, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use the connection classes of this module."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Use the connection classes of this module through proxies as well."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - requests' own signature
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request and read its whole response, also with `stream`. Raises requests' exceptions."""
        if proxies:
            return self._send_to_proxy(request, timeout, verify, cert, proxies)
        url = str(request.url)
        origin, path = _split(url)
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
            raise _no_response(error) from error
        response = _CompleteResponse(raw.data)
        response.status_code = raw.status
        response.headers = raw.headers  # case-insensitive as well
        response.url = url
        response.request = request
        return response

    def _send_to_proxy(
        self, request: PreparedRequest, timeout: Any, verify: bool | str, cert: Any, proxies: Mapping[str, str]
    ) -> requests.Response:
        response = super().send(request, False, timeout, verify, cert, proxies)
        try:
            response.content  # noqa: B018 - reads the body, which keeps it
        except requests.ConnectionError as error:
            # requests raises this for a read timeout, too, once the headers are read.
            raise _no_response(error.args[0] if error.args else error) from error
        return response


class _CompleteResponse(requests.Response):
    """Hold a body that has been read, as requests does after reading it."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = body

    @property
    def content(self) -> bytes:
        return self._body

    @property
    def is_redirect(self) -> bool:
        """Return False: no redirect is followed, so `Session.send` need not prepare the next request."""
        return False


def failure_reason(error: Exception) -> str:
    """Name an error's class, or the class of its cause. The message may quote the URL, and with it a token."""
    return str(error) if isinstance(error, NoResponse) else type(error).__name__


def _no_response(cause: Exception) -> NoResponse:
    # urllib3 derives a refused connection from a connect timeout.
    timed_out = isinstance(cause, PoolTimeout | TimeoutError) and not isinstance(cause, NewConnectionError)
    return (ResponseTimeout if timed_out else NoResponse)(type(cause).__name__)


def _split(url: str) -> tuple[str, str]:
    scheme_end = url.index("://") + 3
    path = url.find("/", scheme_end)
    return url[:path], url[path:]


class _DeadlineReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw  # holds the socket open until it is closed, also after `Connection: close`
        self._sock = sock
        timeout = sock.gettimeout()
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._deadline is not None:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the response was not complete in time")
            self._sock.settimeout(remaining)
        return self._raw.readinto(buffer) or 0

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """Read status line and headers as lines; http.client reads headers as an e-mail, which costs 27 µs each time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock))

    def begin(self) -> None:
        status = 100
        while 100 <= status < 200:  # such as 103 Early Hints; the final response follows
            minor_version, status, self.reason = _read_status_line(self.fp)
            headers = _read_headers(self.fp)
        self.code = self.status = status
        self.version = 10 + minor_version
        self.headers = self.msg = headers
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        length = headers.get("content-length", "")
        if status in (204, 304):
            self.length = 0
        else:
            self.length = int(length) if length.isascii() and length.isdigit() and not self.chunked else None
        connection = headers.get("connection", "").lower()
        closes = "close" in connection if minor_version else "keep-alive" not in connection
        self.will_close = closes or not (self.chunked or self.length is not None)


def _read_status_line(stream: io.BufferedReader) -> tuple[int, int, str]:
    """Return the minor version of HTTP, the status and the reason."""
    line = stream.readline(MAX_LINE + 1)
    if not line:
        raise http.client.RemoteDisconnected("the connection was closed without a response")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise http.client.BadStatusLine("the status line is not valid")
    return int(match[1]), int(match[2]), (match[3] or b"").decode("latin-1").strip()


def _read_headers(stream: io.BufferedReader) -> http.client.HTTPMessage:
    headers = http.client.HTTPMessage()
    for _ in range(MAX_HEADERS):
        line = stream.readline(MAX_LINE + 1)
        if line in (b"\r\n", b"\n", b""):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if len(line) > MAX_LINE or not colon:
            raise http.client.HTTPException("a header is not valid")
        headers[name] = value.strip()
    raise http.client.HTTPException("too many headers")


class _SingleWrite:
    """Send headers and body with one write; two writes cost two packets and wake the server twice.

    A large body may take SEND_TIMEOUT to leave; urllib3 would apply the connect timeout.
    """

    response_class: Any = _Response
    sock: Any
    _pieces: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        pieces: list[bytes] = []
        self._pieces = pieces
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._pieces = None
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        self.sock.settimeout(SEND_TIMEOUT)
        self.send(b"".join(pieces))

    def send(self, data: Any) -> None:
        if self._pieces is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._pieces.append(data)


class _Connection(_SingleWrite, HTTPConnection):
    pass


class _TlsConnection(_SingleWrite, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
