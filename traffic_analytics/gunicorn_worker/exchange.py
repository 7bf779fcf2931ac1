"""Turn one HTTP/1.1 request in memory into one response in memory, through a WSGI application."""

from __future__ import annotations

import io
import json
import logging
import time
from email.utils import formatdate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gunicorn.http import wsgi
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.message import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)

HEADERS_LIMIT = 16_384 + 4 * 100
"""Length of all headers, in bytes: names and values of 16 KB, as in Node, and the separators of 100 lines."""
PIECE = 65_536
"""Data passed to the parser for a request's headers, in bytes; the parser copies it."""
CHUNKS_PIECE = 1024
"""Data passed to the parser for the chunks of a body, in bytes; the parser copies it once for each chunk."""


class Exchange:
    """Request and its response; uses gunicorn's parser.

    `pipelined` holds the bytes that the client sent after the request. A body that is cut is passed on as it arrived.
    """

    def __init__(self, data: bytes, client: Any, server: Any, cfg: Any, *, is_cut: bool = False) -> None:
        self.pipelined = b""
        self._source = _MemoryReader(data)
        self._client = client
        self._server = server
        self._cfg = cfg
        self._is_cut = is_cut

    def respond(self, app: Callable[..., Iterable[bytes]], *, keep_alive: bool) -> tuple[bytes, bool]:
        """Run the application; returns the response and whether the connection can serve another request."""
        try:
            request = Request(self._cfg, self._source, self._client, 1)
            self._check_headers()
            _, environ = wsgi.create(request, _NullSocket, self._client, self._server, self._cfg)
            environ["wsgi.multithread"] = True
            complete = self._attach_body(request, environ)
            environ["traffic_analytics.unread"] = not complete
            status, headers, body = _run_app(app, environ)
            if complete:
                self.pipelined = self._source.remaining()
            keep = keep_alive and complete and _keeps_open(request, environ)
            return _format_response(request.method, status, headers, body, keep=keep), keep
        except NoMoreData:
            # The headers, or even the request line, exceed what the loop reads.
            data = self._source.data
            too_long = LimitRequestHeaders("headers") if b"\n" in data else LimitRequestLine(len(data), 0)
            return _error_response(too_long), False
        except Exception as error:  # noqa: BLE001 - the client gets a response to any failure
            return _error_response(error), False

    def _check_headers(self) -> None:
        """Refuse headers that are too long together; the parser limits each line and their number."""
        body = self._source.offset
        if body > HEADERS_LIMIT and body - self._source.data.index(b"\n", 2) > HEADERS_LIMIT:
            raise LimitRequestHeaders("all headers")

    def _attach_body(self, request: Request, environ: dict[str, Any]) -> bool:
        """Pass the body to the application; returns whether it is complete, so that the next request can be found."""
        if self._is_cut:
            body, complete = self._source.remaining(), False
        elif "HTTP_TRANSFER_ENCODING" in environ:
            body, complete = self._read_chunks(request)
        else:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body = self._source.read(length)
            complete = len(body) == length
        environ["wsgi.input"] = io.BytesIO(body)
        if len(self._source.data) > PIECE:
            self._source.discard()  # free the memory while the application runs
        return complete

    def _read_chunks(self, request: Request) -> tuple[bytes, bool]:
        start = self._source.offset
        try:
            return request.body.read(), True
        except NoMoreData:
            # The body exceeds its limit; the application refuses it.
            return self._source.data[start:], False
        except Exception:
            self._source.discard()  # parser and body form a cycle, which would hold the data until it is collected
            raise


class _MemoryReader:
    """Reader for gunicorn's parser, over data that is complete; see gunicorn.http.unreader.Unreader."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:
        start = self.offset
        if size is None or size < 0:
            size = read_ahead or (CHUNKS_PIECE if start else PIECE)
        piece = self.data[start : start + size]
        self.offset = start + len(piece)
        return piece

    def unread(self, data: bytes) -> None:
        self.offset -= len(data)  # the parser returns the end of what it read

    def remaining(self) -> bytes:
        return self.data[self.offset :]

    def discard(self) -> None:
        """Free what has been read."""
        self.data, self.offset = self.remaining(), 0


class _NullSocket:
    """Socket that ignores gunicorn's `100 Continue`; the loop has sent it."""

    @staticmethod
    def send(_data: bytes) -> None:
        pass


def copy_config(cfg: Any) -> SimpleNamespace:
    """Copy gunicorn's settings into plain attributes, which saves 18 look-ups per request.

    No peer is trusted to set the scheme or the script name: the application does not use them.
    """
    values = {name: setting.get() for name, setting in cfg.settings.items()}
    values |= {"is_ssl": cfg.is_ssl, "forwarded_allow_networks": list}
    values |= {"forwarded_allow_ips": ["*"], "secure_scheme_headers": {}, "forwarder_headers": []}
    return SimpleNamespace(**values)


def _keeps_open(request: Request, environ: dict[str, Any]) -> bool:
    """Return whether the client allows another request; gunicorn's should_close reads no lists of options."""
    if request.must_close or request.method == "CONNECT":
        return False
    value = environ.get("HTTP_CONNECTION")
    if value is None:
        return bool(request.version > (1, 0))
    options = [option.strip(" \t") for option in value.lower().split(",")]
    return "close" not in options and (request.version > (1, 0) or "keep-alive" in options)


def _run_app(app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    started: list[Any] = []
    body: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:  # noqa: ARG001
        started[:] = [status, headers]
        return body.append

    chunks = app(environ, start_response)
    try:
        body.extend(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    status, headers = started
    return status, headers, b"".join(body)


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


def _error_response(error: Exception) -> bytes:
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
