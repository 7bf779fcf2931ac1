"""Where an HTTP/1.1 request ends can be told from its bytes without parsing it."""

from __future__ import annotations

import enum
import re

HEAD_LIMIT = 65_536
"""Bytes after which a request without an end of its headers is handed on, for the parser to refuse it."""
BODY_LIMIT = 65_536
"""Bytes of body that are waited for; a longer one is handed on unread, for the application to refuse it, unless more is
allowed."""

_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*0*([0-9]{1,12})[ \t]*(?:\r|$)")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:")
_EXPECTS = re.compile(rb"\r\nexpect[ \t]*:")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


class Progress(enum.Enum):
    """How far a request has arrived."""

    INCOMPLETE = enum.auto()
    CONTINUE = enum.auto()  # the rest comes when the client is told to send it
    COMPLETE = enum.auto()  # or as much as anybody will read of it
    TOO_LONG = enum.auto()  # the headers are whole; the body is longer than what is waited for


class RequestFraming:
    """Watches one request arrive; each byte is looked at once, however small the pieces.

    Wrong framing counts as complete, since the parser will refuse it; what matters is that a request which the parser
    accepts is never cut short.
    """

    __slots__ = ("_body", "_chunked", "_expects", "_length", "_limit", "_next_chunk", "_seen")

    def __init__(self) -> None:
        self._seen = 0
        self._body = 0  # where it begins, once the headers are whole
        self._length = 0
        self._chunked = False
        self._expects = False
        self._next_chunk = 0
        self._limit = BODY_LIMIT

    def allow(self, limit: int) -> None:
        """Let the body have `limit` bytes; a chunked one HEAD_LIMIT more for its framing."""
        self._limit = limit

    def head(self, data: bytearray) -> bytes:
        """Return the request line and the headers, once they are whole."""
        return bytes(data[: self._body])

    def progress(self, data: bytearray) -> Progress:
        """Say whether `data`, all that has arrived of the request so far, is the whole of it."""
        if self._body == 0:
            end = data.find(b"\r\n\r\n", max(0, self._seen - 3))
            self._seen = len(data)
            if end < 0:
                return Progress.COMPLETE if len(data) > HEAD_LIMIT else Progress.INCOMPLETE
            self._read_head(data, end)
        waiting = len(data) - self._body
        if self._length > self._limit or waiting > HEAD_LIMIT + self._limit:
            return Progress.TOO_LONG
        if self._chunked_end(data) if self._chunked else waiting >= self._length:
            return Progress.COMPLETE
        return Progress.CONTINUE if self._expects else Progress.INCOMPLETE

    def _read_head(self, data: bytearray, end: int) -> None:
        head = data[:end].lower()
        # Two lengths that differ are refused by the parser.
        length = _LENGTH.search(head)
        self._length = int(length[1]) if length else 0
        self._chunked = _CHUNKED.search(head) is not None
        self._expects = _EXPECTS.search(head) is not None
        self._body = self._next_chunk = end + 4

    def _chunked_end(self, data: bytearray) -> bool:
        while True:
            line_end = data.find(b"\r\n", self._next_chunk)
            if line_end < 0:  # looked for anew with each piece, so there must not be much to look through
                return len(data) - self._next_chunk > HEAD_LIMIT
            size = _CHUNK_SIZE.match(data, self._next_chunk, line_end)
            if size is None:
                return True
            if int(size[0], 16) == 0:
                return data.find(b"\r\n\r\n", line_end) >= 0 or len(data) - line_end > HEAD_LIMIT
            next_chunk = line_end + 2 + int(size[0], 16) + 2
            if next_chunk > len(data):
                return False
            self._next_chunk = next_chunk
