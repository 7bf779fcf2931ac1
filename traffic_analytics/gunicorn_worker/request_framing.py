"""Find the end of an HTTP/1.1 request in its bytes."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.gunicorn_worker.request_head import Head

HEAD_LIMIT = 65_536
"""Length from which headers, or a chunk's line, without an end count as complete, so that the parser refuses them."""
BODY_LIMIT = 65_536
"""Length of the longest body that is read by default, its framing included, in bytes; see raise_body_limit."""
FRAMING_LIMIT = 65_536
"""Length of the framing that a large chunked body may have in addition, in bytes."""

_CHUNK_SIZE = re.compile(rb"0*([0-9a-fA-F]{1,8})(?![0-9a-fA-F])")


class Progress(enum.Enum):
    """State of a request that arrives."""

    INCOMPLETE = enum.auto()
    EXPECTS_CONTINUE = enum.auto()  # the client sends the body after a 100 Continue
    COMPLETE = enum.auto()  # or invalid, or as much as will be read
    TOO_LONG = enum.auto()  # the headers are complete; the body exceeds its limit


class RequestFraming:
    """Track the arrival of one request; reads each byte once, however small the pieces.

    The head is parsed once, when it is complete. Invalid framing counts as complete, since the parser refuses it. A
    request that the parser accepts is never cut short.
    """

    __slots__ = ("_limit", "_next_chunk", "_parse", "_seen", "_trailer", "body", "head")

    def __init__(self, parse: Callable[[bytes], Head]) -> None:
        self.head: Head | None = None
        self.body = 0  # offset of the body; 0 until the headers are complete
        self._parse = parse
        self._seen = 0  # offset up to which the end of the headers, of a chunk's line or of the trailer was searched
        self._next_chunk = 0  # offset of the next chunk's line, and finally of the end of the body
        self._trailer = 0  # offset of the last chunk's line end; 0 until it has arrived
        self._limit = BODY_LIMIT

    def raise_body_limit(self, limit: int) -> None:
        """Accept a body of up to `limit` bytes, and FRAMING_LIMIT more for the framing of a chunked one."""
        is_chunked = self.head is not None and self.head.is_chunked
        self._limit = limit + FRAMING_LIMIT if is_chunked else limit

    def progress(self, data: bytearray | bytes) -> Progress:
        """Return the state of the request; `data` is all that has arrived of it so far."""
        head = self.head
        if head is None:
            end = data.find(b"\r\n\r\n", max(0, self._seen - 3))
            self._seen = len(data)
            if end >= 0:
                self.body = self._next_chunk = self._seen = end + 4
            elif len(data) > HEAD_LIMIT:
                self.body = len(data)
            else:
                return Progress.INCOMPLETE
            head = self.head = self._parse(bytes(data[: self.body]))
        if head.error is not None:
            return Progress.COMPLETE
        if head.is_chunked:
            is_complete = self._has_last_chunk(data)
            size = (self._next_chunk if is_complete else len(data)) - self.body
        else:
            is_complete = len(data) - self.body >= head.length
            size = head.length
        if size > self._limit:
            return Progress.TOO_LONG
        if is_complete:
            return Progress.COMPLETE
        return Progress.EXPECTS_CONTINUE if head.expects_continue else Progress.INCOMPLETE

    def _has_last_chunk(self, data: bytearray | bytes) -> bool:
        while self._trailer == 0:
            if self._next_chunk >= len(data):
                return False
            line_end = data.find(b"\r\n", max(self._next_chunk, self._seen - 1))
            if line_end < 0:
                self._seen = len(data)
                return len(data) - self._next_chunk > HEAD_LIMIT
            size = _CHUNK_SIZE.match(data, self._next_chunk, line_end)
            if size is None:
                return True
            length = int(size[1], 16)
            if length == 0:
                self._trailer = self._seen = line_end
            else:
                self._next_chunk = line_end + 2 + length + 2
        end = data.find(b"\r\n\r\n", max(self._trailer, self._seen - 3))
        if end < 0:
            self._seen = len(data)
            return len(data) - self._trailer > HEAD_LIMIT
        self._next_chunk = end + 4
        return True
