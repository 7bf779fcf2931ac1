"""Parse the request line and headers of an HTTP/1.1 request, once, into a WSGI environment.

gunicorn's parser decides what is valid. Its classes look at each header several times, which costs more than all else
of a request, so that usual heads take a short path: gunicorn's C parser and one pass over its result. The short path
applies no rule of its own. A head with anything that gunicorn's classes treat in a special way goes through them:
an error, a repeated or unclear header, a transfer coding, an expectation, an unusual target.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gunicorn.http import message, wsgi
from gunicorn.http.errors import InvalidHeader, LimitRequestHeaders, LimitRequestLine, NoMoreData
from gunicorn.http.message import Request

try:
    import gunicorn_h1c
except ImportError:  # optional: it has no wheels for Linux
    gunicorn_h1c = None

if TYPE_CHECKING:
    from collections.abc import Callable

HEADERS_LIMIT = 16_384 + 4 * 100
"""Length of all headers, in bytes: names and values of 16 KB, as in Node, and the separators of 100 lines."""
PIECE = 65_536
"""Data passed to the parser for a request's headers, in bytes; the parser copies it."""
CHUNKS_PIECE = 1024
"""Data passed to the parser for the chunks of a body, in bytes; the parser copies it once for each chunk."""
NAMES_LIMIT = 1000
"""Names of headers whose key in the environment is remembered; clients choose them."""
NAME_LENGTH = 64
"""Length of the longest name that is remembered, in bytes."""
SHORT_PATH_SETTINGS = {
    "proxy_protocol": "off",
    "header_map": "drop",
    "permit_obsolete_folding": False,
    "strip_header_spaces": False,
    "casefold_http_method": False,
    "permit_unconventional_http_method": False,
    "permit_unconventional_http_version": False,
}
"""gunicorn's settings that the short path supports: its defaults."""
NOT_OF_THE_APPLICATION = ("gunicorn.socket", "wsgi.early_hints")
"""Keys of gunicorn's environment that this worker does not support: it sends each response in one piece."""

_TARGET = re.compile(rb"/(?!/)[!\"$-~]*")
_PROTOCOLS = {0: "HTTP/1.0", 1: "HTTP/1.1"}
_SPECIAL_HEADERS = frozenset({b"TRANSFER-ENCODING", b"EXPECT"})


class Head:
    """Parsed request line and headers.

    `environ` lacks the client's address and the body. `error` is the reason for which the request is refused, and
    then nothing else is set.
    """

    __slots__ = ("_request", "_source", "environ", "error", "expects_continue", "is_chunked", "length", "must_close")

    def __init__(
        self,
        environ: dict[str, Any],
        length: int = 0,
        *,
        request: Any = None,
        source: _MemoryReader | None = None,
        error: Exception | None = None,
    ) -> None:
        self.environ = environ
        self.length = length
        self.error = error
        self.is_chunked = "HTTP_TRANSFER_ENCODING" in environ
        self.expects_continue = "HTTP_EXPECT" in environ and environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        self.must_close = request is not None and request.must_close
        self._request = request
        self._source = source

    def keeps_open(self) -> bool:
        """Return whether the client allows another request; gunicorn's should_close reads no lists of options."""
        environ = self.environ
        if self.must_close or environ["REQUEST_METHOD"] == "CONNECT":
            return False
        is_1_0 = environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        value = environ.get("HTTP_CONNECTION")
        if value is None:
            return not is_1_0
        options = [option.strip(" \t") for option in value.lower().split(",")]
        return "close" not in options and (not is_1_0 or "keep-alive" in options)

    def read_chunks(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Decode a chunked body; returns it and what follows it.

        Returns what has arrived, and None, if the body is not complete.
        """
        request, source = self._request, self._source
        assert source is not None  # noqa: S101 - a chunked body's head took the long path
        source.set(data)
        try:
            return request.body.read(), source.rest()
        except NoMoreData:
            return data, None
        finally:
            source.set(b"")  # parser and body form a cycle, which would hold the data until it is collected


class HeadParser:
    """Parser of one worker's request heads, with gunicorn's settings."""

    def __init__(self, cfg: Any, server: Any) -> None:
        self._cfg = copy_config(cfg)
        self._server = server
        self._keys: dict[bytes, str] = {}
        self._usual = self._make_template()
        self.parse: Callable[[bytes], Head] = self._make_short_path(cfg)
        """Parse a head up to and with its blank line."""

    def _make_template(self) -> dict[str, Any]:
        """Return what all requests have in common in gunicorn's environment."""
        environ = self._parse_with_gunicorn(b"GET / HTTP/1.1\r\n\r\n").environ
        for key in ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.input"):
            environ.pop(key, None)
        return environ

    def _make_short_path(self, cfg: Any) -> Callable[[bytes], Head]:
        is_supported = (
            gunicorn_h1c is not None
            and cfg.http_parser != "python"
            and cfg.limit_request_line > 0
            and cfg.limit_request_fields > 0
            and cfg.limit_request_field_size > 0
            and not isinstance(self._server, str)  # a Unix socket's name in the environment is the Host header
            and self._usual.get("SCRIPT_NAME") == ""
            and all(getattr(cfg, name) == value for name, value in SHORT_PATH_SETTINGS.items())
        )
        if not is_supported:
            return self._parse_with_gunicorn
        self._limits = {
            "limit_request_line": min(cfg.limit_request_line, message.MAX_REQUEST_LINE),
            "limit_request_fields": min(cfg.limit_request_fields, message.MAX_HEADERS),
            "limit_request_field_size": cfg.limit_request_field_size,
        }
        return self._parse_usual

    def _parse_usual(self, head: bytes) -> Head:
        """Parse a usual head; leaves any other one, and so all errors, to gunicorn's classes."""
        try:
            parsed = gunicorn_h1c.parse_request(head, **self._limits)
        except (gunicorn_h1c.ParseError, gunicorn_h1c.IncompleteError):
            return self._parse_with_gunicorn(head)
        target: bytes = parsed["path"]
        protocol = _PROTOCOLS.get(parsed["minor_version"])
        is_usual = protocol is not None and parsed["consumed"] == len(head) <= HEADERS_LIMIT
        if not is_usual or head.startswith(b"\r") or not _TARGET.fullmatch(target):
            return self._parse_with_gunicorn(head)
        environ = self._usual.copy()
        keys = self._keys
        length = 0
        count = len(environ)
        for name, value in parsed["headers"]:
            key = keys.get(name) or self._key(name)
            if key == "CONTENT_LENGTH":
                if not value.isdigit() or len(value) > 15:
                    return self._parse_with_gunicorn(head)
                length = int(value)
            environ[key] = value.decode("latin-1")
            count += 1
        if len(environ) != count or "" in environ:  # a repeated header, or one that is not usual
            return self._parse_with_gunicorn(head)
        uri = target.decode("ascii")
        path, _, query = uri.partition("?")
        environ["REQUEST_METHOD"] = parsed["method"].decode("latin-1")
        environ["SERVER_PROTOCOL"] = protocol
        environ["RAW_URI"] = uri
        environ["QUERY_STRING"] = query
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        return Head(environ, length)

    def _key(self, name: bytes) -> str:
        """Return the key of a header in the environment; empty for a header that is not usual."""
        upper = name.upper()
        if upper in _SPECIAL_HEADERS or b"_" in upper or not upper.isascii():
            return ""
        key = upper.replace(b"-", b"_").decode("ascii")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        if len(self._keys) < NAMES_LIMIT and len(name) <= NAME_LENGTH:
            self._keys[name] = key
        return key

    def _parse_with_gunicorn(self, head: bytes) -> Head:
        """Parse any head with gunicorn's classes."""
        source = _MemoryReader(head)
        try:
            request = Request(self._cfg, source, ("", 0), 1)
            _check_end(head, source)
            _, environ = wsgi.create(request, _NullSocket, ("", 0), self._server, self._cfg)
        except (NoMoreData, StopIteration):
            # The headers, or even the request line, exceed what the loop reads.
            too_long = LimitRequestHeaders("headers") if b"\n" in head else LimitRequestLine(len(head), 0)
            return Head({}, error=too_long)
        except Exception as error:  # noqa: BLE001 - the client gets a response to any failure
            return Head({}, error=error)
        for key in NOT_OF_THE_APPLICATION:
            environ.pop(key, None)
        environ["wsgi.multithread"] = True
        return Head(environ, int(environ.get("CONTENT_LENGTH") or 0), request=request, source=source)


def _check_end(head: bytes, source: _MemoryReader) -> None:
    """Refuse a head that ends before its blank line, and headers that are too long together.

    The parser limits each line and their number.
    """
    if source.rest():
        raise InvalidHeader("the blank line")
    if len(head) > HEADERS_LIMIT and len(head) - head.index(b"\n", 2) > HEADERS_LIMIT:
        raise LimitRequestHeaders("all headers")


class _MemoryReader:
    """Reader for gunicorn's parser, over data that is complete; see gunicorn.http.unreader.Unreader."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0
        self._piece = PIECE

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:
        start = self._offset
        if size is None or size < 0:
            size = read_ahead or self._piece
        piece = self._data[start : start + size]
        self._offset = start + len(piece)
        return piece

    def unread(self, data: bytes) -> None:
        self._offset -= len(data)  # the parser returns the end of what it read

    def rest(self) -> bytes:
        return self._data[self._offset :]

    def set(self, data: bytes) -> None:
        """Continue with the chunks of a body."""
        self._data, self._offset, self._piece = data, 0, CHUNKS_PIECE


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
