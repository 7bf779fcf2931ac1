"""Turn one whole HTTP/1.1 request into one response in memory, through a WSGI application.

An application may return an iterable with a method `on_ready(callback)`, if iterating would block at first. The
method calls `callback()` once, from any thread, as soon as iterating does not block; until then no thread waits. Under
other servers such a response just blocks.
"""

from __future__ import annotations

import io
import json
import logging
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from traffic_analytics.gunicorn_worker.request_head import Head

_log = logging.getLogger(__name__)


class Exchange:
    """Request and its response.

    `data` holds the body and what the client sent after it; `pipelined` is the latter, once `start` has run.
    """

    __slots__ = (
        "_chunks",
        "_data",
        "_error",
        "_head",
        "_is_complete",
        "_pieces",
        "_started",
        "_unclaimed",
        "pipelined",
    )

    def __init__(self, head: Head, data: bytes, *, is_cut: bool = False) -> None:
        self.pipelined = b""
        self._head = head
        self._is_complete = not is_cut
        self._data = data
        self._chunks: Iterable[bytes] = ()
        self._pieces: list[bytes] = []
        self._started: Any = None  # status and headers
        self._error: BaseException | None = head.error
        self._unclaimed = [True]

    def start(self, app: Callable[..., Iterable[bytes]], client: Any) -> Callable[[Callable[[], None]], None] | None:
        """Call the application; returns its `on_ready` if its response is not ready, and else None."""
        if self._error is not None:
            return None
        environ = self._head.environ
        if isinstance(client, tuple):
            environ["REMOTE_ADDR"] = client[0]
            environ["REMOTE_PORT"] = str(client[1])
        else:
            environ["REMOTE_ADDR"] = client if isinstance(client, str) else client.decode()
        try:
            environ["wsgi.input"] = io.BytesIO(self._take_body())
            environ["traffic_analytics.unread"] = not self._is_complete
            self._chunks = app(environ, self._start_response)
        except Exception as error:  # noqa: BLE001 - the client gets a response to any failure
            self._error = error
            return None
        return getattr(self._chunks, "on_ready", None)

    def claim(self) -> bool:
        """Return whether the caller is the first that wants to send the response."""
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def fail(self, error: BaseException) -> None:
        """Respond with an error, whatever the application's response is."""
        self._error = error

    def respond(self, *, keep_alive: bool) -> tuple[bytes, bool]:
        """Format the response; returns it and whether the connection can serve another request."""
        try:
            try:
                if self._error is not None:
                    return _error_response(self._error), False
                self._pieces.extend(self._chunks)
            finally:
                if hasattr(self._chunks, "close"):
                    self._chunks.close()
            status, headers = self._started
            keep = keep_alive and self._is_complete and self._head.keeps_open()
            method = self._head.environ["REQUEST_METHOD"]
            return _format_response(method, status, headers, b"".join(self._pieces), keep=keep), keep
        except Exception as error:  # noqa: BLE001 - the client gets a response to any failure
            return _error_response(error), False

    def _start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,  # noqa: ARG002 - WSGI's signature
    ) -> Callable[[bytes], None]:
        self._started = status, headers
        return self._pieces.append

    def _take_body(self) -> bytes:
        """Return the request's body, and find what follows it."""
        data, self._data = self._data, b""
        if not self._is_complete:
            return data
        if self._head.is_chunked:
            body, rest = self._head.read_chunks(data)
            self._is_complete = rest is not None
            self.pipelined = rest or b""
            return body
        length = self._head.length
        if len(data) == length:
            return data
        self.pipelined = data[length:]
        return data[:length]


def _format_response(method: str, status: str, headers: list[tuple[str, str]], body: bytes, *, keep: bool) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Date: {_date_header()}", "Connection: keep-alive" if keep else "Connection: close"]
    has_length = False
    has_no_body = status.startswith(("204", "304"))
    for name, value in headers:
        if "\r" in value or "\n" in value or "\r" in name or "\n" in name:
            raise ValueError("a response header holds a line break")
        if name.lower() == "content-length":
            if has_no_body:
                continue
            has_length = True
        lines.append(f"{name}: {value}")
    if not has_length and not has_no_body:
        lines.append(f"Content-Length: {len(body)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if has_no_body or method == "HEAD" else head + body


def _error_response(error: BaseException) -> bytes:
    """Return an error in the shape of all our errors; gunicorn's own would log the client's address and URL."""
    message = "the request is not HTTP that this server accepts"
    match error:
        case LimitRequestLine():
            status, name = 414, "URI Too Long"
        case LimitRequestHeaders():
            status, name = 431, "Request Header Fields Too Large"
        case ExpectationFailed():
            status, name = 417, "Expectation Failed"
        case UnsupportedTransferCoding():
            status, name = 501, "Not Implemented"
        case ParseException():
            status, name = 400, "Bad Request"
        case _:
            status, name = 500, "Internal Server Error"
            message = "the request failed"
            _log.error("a request failed", exc_info=error, extra={"event": "UnhandledError"})
    error_body = {"error": name, "message": message, "statusCode": status}
    headers = [("content-type", "application/json"), ("access-control-allow-origin", "*")]
    return _format_response("GET", f"{status} {name}", headers, json.dumps(error_body).encode(), keep=False)


_current_date: tuple[int, str] = (0, "")


def _date_header() -> str:
    """Return the Date header, formatted once a second; formatting costs more than all other headers."""
    global _current_date
    now = int(time.time())  # noqa: TID251 - HTTP's Date header is the server's clock by definition
    if _current_date[0] != now:
        _current_date = (now, formatdate(now, usegmt=True))
    return _current_date[1]
