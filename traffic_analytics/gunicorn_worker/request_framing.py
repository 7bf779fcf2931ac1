"""Find the end of an HTTP/1.1 request in its bytes, without parsing the rest."""

from __future__ import annotations

import enum
import re

HEAD_LIMIT = 65_536
"""Length from which headers without an end count as complete, so that the parser refuses them, in bytes."""
BODY_LIMIT = 65_536
"""Length of the longest body that is read by default, in bytes; see RequestFraming.raise_body_limit."""

_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*0*([0-9]{1,12})[ \t]*(?:\r|$)")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:")
_EXPECTS = re.compile(rb"\r\nexpect[ \t]*:")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


class Progress(enum.Enum):
    """State of a request that arrives."""

    INCOMPLETE = enum.auto()
    EXPECTS_CONTINUE = enum.auto()  # the client sends the body after a 100 Continue
    COMPLETE = enum.auto()  # or invalid, or as much as will be read
    TOO_LONG = enum.auto()  # the headers are complete; the body exceeds its limit


class RequestFraming:
    """Track the arrival of one request; reads each byte once, however small the pieces.

    Invalid framing counts as complete, since the parser refuses it. A request that the parser accepts is never cut
    short.
    """

    __slots__ = ("_body", "_expects_continue", "_is_chunked", "_length", "_limit", "_next_chunk", "_seen")

    def __init__(self) -> None:
        self._seen = 0
        self._body = 0  # offset of the body; 0 until the headers are complete
        self._length = 0
        self._is_chunked = False
        self._expects_continue = False
        self._next_chunk = 0
        self._limit = BODY_LIMIT

    def raise_body_limit(self, limit: int) -> None:
        """Accept a body of up to `limit` bytes; a chunked body may have HEAD_LIMIT more for its framing."""
        self._limit = limit

    def head(self, data: bytearray) -> bytes:
        """Return the request line and the headers; empty until they are complete."""
        return bytes(data[: self._body])

    def progress(self, data: bytearray) -> Progress:
        """Return the state of the request; `data` is all that has arrived of it so far."""
        if self._body == 0:
            end = data.find(b"\r\n\r\n", max(0, self._seen - 3))
            self._seen = len(data)
            if end < 0:
                return Progress.COMPLETE if len(data) > HEAD_LIMIT else Progress.INCOMPLETE
            self._read_head(data, end)
        received = len(data) - self._body
        if self._length > self._limit or received > HEAD_LIMIT + self._limit:
            return Progress.TOO_LONG
        if self._has_last_chunk(data) if self._is_chunked else received >= self._length:
            return Progress.COMPLETE
        return Progress.EXPECTS_CONTINUE if self._expects_continue else Progress.INCOMPLETE

    def _read_head(self, data: bytearray, end: int) -> None:
        head = data[:end].lower()
        # The parser refuses two lengths that differ.
        length = _LENGTH.search(head)
        self._length = int(length[1]) if length else 0
        self._is_chunked = _CHUNKED.search(head) is not None
        self._expects_continue = _EXPECTS.search(head) is not None
        self._body = self._next_chunk = end + 4

    def _has_last_chunk(self, data: bytearray) -> bool:
        while True:
            line_end = data.find(b"\r\n", self._next_chunk)
            if line_end < 0:  # bounded, because the search starts anew with each piece
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
