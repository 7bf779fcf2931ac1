"""Find the end of an HTTP/1.1 request in its bytes, without parsing the rest."""

from __future__ import annotations

import enum
import re

HEAD_LIMIT = 65_536
"""Length from which headers, or a chunk's line, without an end count as complete, so that the parser refuses them."""
BODY_LIMIT = 65_536
"""Length of the longest body that is read by default, its framing included, in bytes; see raise_body_limit."""
FRAMING_LIMIT = 65_536
"""Length of the framing that a large chunked body may have in addition, in bytes."""

_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*0*([0-9]{1,12})[ \t]*(?:\r|$)")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:")
_EXPECTATION = re.compile(rb"\r\nexpect[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r|$)")
_IS_HTTP_1_1 = re.compile(rb"(?:\r\n)?[^\r\n]* http/1\.1(?:\r|$)")
_CHUNK_SIZE = re.compile(rb"0*([0-9a-fA-F]{1,8})(?![0-9a-fA-F])")


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

    __slots__ = (
        "_body",
        "_expects_continue",
        "_is_chunked",
        "_is_refused",
        "_length",
        "_limit",
        "_next_chunk",
        "_seen",
        "_trailer",
    )

    def __init__(self) -> None:
        self._seen = 0  # offset up to which the end of the headers, of a chunk's line or of the trailer was searched
        self._body = 0  # offset of the body; 0 until the headers are complete
        self._length = 0
        self._is_chunked = False
        self._expects_continue = False
        self._is_refused = False
        self._next_chunk = 0  # offset of the next chunk's line, and finally of the end of the body
        self._trailer = 0  # offset of the last chunk's line end; 0 until it has arrived
        self._limit = BODY_LIMIT

    def raise_body_limit(self, limit: int) -> None:
        """Accept a body of up to `limit` bytes, and FRAMING_LIMIT more for the framing of a chunked one."""
        self._limit = limit + FRAMING_LIMIT if self._is_chunked else limit

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
        if self._is_chunked:
            is_complete = self._has_last_chunk(data)
            size = (self._next_chunk if is_complete else len(data)) - self._body
        else:
            is_complete = len(data) - self._body >= self._length
            size = self._length
        if size > self._limit:
            return Progress.TOO_LONG
        if is_complete or self._is_refused:
            return Progress.COMPLETE
        return Progress.EXPECTS_CONTINUE if self._expects_continue else Progress.INCOMPLETE

    def _read_head(self, data: bytearray, end: int) -> None:
        head = data[:end].lower()
        # The parser refuses two lengths that differ.
        length = _LENGTH.search(head)
        self._length = int(length[1]) if length else 0
        self._is_chunked = _CHUNKED.search(head) is not None
        if b"\r\nexpect" in head:
            expectations = _EXPECTATION.findall(head)
            self._is_refused = any(each != b"100-continue" for each in expectations)
            self._expects_continue = bool(expectations) and _IS_HTTP_1_1.match(head) is not None
        self._body = self._next_chunk = self._seen = end + 4

    def _has_last_chunk(self, data: bytearray) -> bool:
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
