"""One HTTP/1.1 request in memory becomes one answer in memory, through a WSGI application."""

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
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.message import Request
from gunicorn.http.unreader import Unreader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)

PIECE = 65_536
"""Bytes that the parser is given at a time."""


class Exchange:
    """Parses with gunicorn's parser; what was sent beyond the request is left in `ahead`."""

    def __init__(self, data: bytes, client: Any, server: Any, cfg: Any) -> None:
        self.ahead = b""
        self._source = _Memory(data)
        self._client = client
        self._server = server
        self._cfg = cfg

    def answer(self, app: Callable[..., Iterable[bytes]], *, keep_alive: bool) -> tuple[bytes, bool]:
        """Answer the request; returns the bytes to send and whether the connection can be used again."""
        try:
            request = Request(self._cfg, self._source, self._client, 1)
            _, environ = wsgi.create(request, _Nowhere, self._client, self._server, self._cfg)
            environ["wsgi.multithread"] = True
            complete = self._attach_body(request, environ)
            environ["traffic_analytics.unread"] = not complete
            status, headers, body = _run(app, environ)
            if complete:
                self.ahead = self._source.rest()
            keep = keep_alive and complete and not request.should_close()
            return _write(request.method, status, headers, body, keep=keep), keep
        except NoMoreData:
            # The loop stopped waiting for the headers' end, or even the first line's.
            data = self._source.data
            endless = LimitRequestHeaders("headers") if b"\n" in data else LimitRequestLine(len(data), 0)
            return _refuse(endless), False
        except Exception as error:  # noqa: BLE001 - whatever it is, this client gets an answer and others live on
            return _refuse(error), False

    def _attach_body(self, request: Request, environ: dict[str, Any]) -> bool:
        """Give the application the body; False if not all of it is here, so that nobody knows where the next begins."""
        if "HTTP_TRANSFER_ENCODING" in environ:
            body, complete = self._read_chunks(request)
        else:
            wanted = int(environ.get("CONTENT_LENGTH") or 0)
            body = self._source.read(wanted)
            complete = len(body) == wanted
        environ["wsgi.input"] = io.BytesIO(body)
        if len(self._source.data) > PIECE:
            self._source.forget()  # the application may take its time
        return complete

    def _read_chunks(self, request: Request) -> tuple[bytes, bool]:
        begin = self._source.at
        try:
            return request.body.read(), True
        except NoMoreData:
            # The loop stopped waiting for the end, as there is more than anybody takes: let the application say so.
            return self._source.data[begin:], False
        except Exception:
            self._source.forget()  # parser and body refer to each other, and would keep it until they are collected
            raise


class _Memory(Unreader):  # type: ignore[misc] # gunicorn is not typed
    """A source that holds all there will ever be, and gives it in pieces: the parser copies what it is given."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:  # noqa: ARG002
        begin = self.at
        end = begin + (PIECE if size is None or size < 0 else size)
        taken = self.data[begin:end]
        self.at = begin + len(taken)
        return taken

    def unread(self, data: bytes) -> None:
        self.at -= len(data)  # the parser gives back the end of what it took

    def rest(self) -> bytes:
        return self.data[self.at :]

    def forget(self) -> None:
        """Let go of what has been read."""
        self.data, self.at = self.rest(), 0


class _Nowhere:
    """Takes the `100 Continue` that gunicorn would send: the loop has sent it."""

    @staticmethod
    def send(_data: bytes) -> None:
        pass


def plain(cfg: Any) -> SimpleNamespace:
    """Copy gunicorn's settings into plain attributes: its own look each one up, 18 times a request.

    The scheme and script name that a proxy may set are not used here, so no peer is trusted to set them, and none is
    looked up in a list.
    """
    values = {name: setting.get() for name, setting in cfg.settings.items()}
    values |= {"is_ssl": cfg.is_ssl, "forwarded_allow_networks": list}
    values |= {"forwarded_allow_ips": ["*"], "secure_scheme_headers": {}, "forwarder_headers": []}
    return SimpleNamespace(**values)


def _run(app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    said: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:  # noqa: ARG001
        said[:] = [status, headers]
        return written.append

    chunks = app(environ, start_response)
    try:
        written.extend(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    status, headers = said
    return status, headers, b"".join(written)


def _write(method: str, status: str, headers: list[tuple[str, str]], body: bytes, *, keep: bool) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Date: {_date()}", "Connection: keep-alive" if keep else "Connection: close"]
    has_length = False
    bodiless = status.startswith(("204", "304"))
    for name, value in headers:
        if "\r" in value or "\n" in value or "\r" in name or "\n" in name:
            raise ValueError("a header of the answer holds a line break")
        if name.lower() == "content-length":
            if bodiless:
                continue
            has_length = True
        lines.append(f"{name}: {value}")
    if not has_length and not bodiless:
        lines.append(f"Content-Length: {len(body)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if bodiless or method == "HEAD" else head + body


def _refuse(error: Exception) -> bytes:
    """Answer what is no HTTP, in the shape of all our errors; gunicorn would log the client's address and URL."""
    match error:
        case LimitRequestLine():
            status, name = 414, "URI Too Long"
        case LimitRequestHeaders():
            status, name = 431, "Request Header Fields Too Large"
        case UnsupportedTransferCoding():
            status, name = 501, "Not Implemented"
        case ParseException():
            status, name = 400, "Bad Request"
        case _:
            status, name = 500, "Internal Server Error"
            _log.error("a request failed", exc_info=error, extra={"event": "UnhandledError"})
    said = {"error": name, "message": "the request is not HTTP as we take it", "statusCode": status}
    headers = [("content-type", "application/json"), ("access-control-allow-origin", "*")]
    return _write("GET", f"{status} {name}", headers, json.dumps(said).encode(), keep=False)


_dated: tuple[int, str] = (0, "")


def _date() -> str:
    """Write the date for an answer; it changes once a second, and making it costs more than all other headers."""
    global _dated
    now = int(time.time())  # noqa: TID251 - HTTP's Date header is the server's clock by definition
    if _dated[0] != now:
        _dated = (now, formatdate(now, usegmt=True))
    return _dated[1]
