"""Read the body of an append piece by piece, so that no body takes much more memory than one piece.

A body is NDJSON or one object over any number of lines, gzip or not. It is read twice. First its length and its
lines are counted, so that a body over a limit is refused before any of its rows is stored.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from analytics_store.errors import RequestError, TooLargeError
from analytics_store.events import ROW_BYTES

BODY_LIMIT = 10_000_000
"""Longest body, in bytes; Tinybird's limit on its free plan."""
UNPACKED_LIMIT = 100_000_000
"""Longest unpacked body, in bytes; Tinybird's limit on its paid plans."""
LINES_LIMIT = 50_000
"""Most lines of a body, empty ones included; a batch of the service has at most 10 000."""
PIECE_LINES = 10_000
"""Most lines of a piece; each piece is committed by itself."""
PIECE_BYTES = BODY_LIMIT
"""Most bytes of a piece, apart from its last line: a body without gzip is one piece unless it has many lines."""
GZIP_BYTES = 1_000
"""Bytes that are unpacked at once; gzip unpacks to at most 1 032 times as many."""
CHUNK_BYTES = 1_000_000
"""Bytes of a body without gzip that are split at once."""


def read_pieces(body: bytes, encoding: str) -> Iterator[list[bytes]]:
    """Return the lines of a body in pieces, without empty lines.

    Raises RequestError or TooLargeError before the first piece.
    """
    unpack = _unpackers.get(encoding.strip().lower())
    if unpack is None:
        raise RequestError("Content-Encoding must be gzip or absent")
    length = _check(unpack(body))
    if length <= ROW_BYTES:
        return _join(_split_small(b"".join(unpack(body))))
    return _join(_split(unpack(body)))


def _check(chunks: Iterable[bytes]) -> int:
    """Return the length of a body that is within the limits."""
    length, lines = 0, 1
    for chunk in chunks:
        length += len(chunk)
        lines += chunk.count(b"\n")
        if length > UNPACKED_LIMIT:
            raise TooLargeError(f"the body unpacks to more than {UNPACKED_LIMIT} bytes; split it")
        if lines > LINES_LIMIT + 1:  # the last line may end with a newline
            raise TooLargeError(f"the body has more than {LINES_LIMIT} lines; split it")
    return length


def _join(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    piece: list[bytes] = []
    length = 0
    for line in lines:
        piece.append(line)
        length += len(line)
        if len(piece) == PIECE_LINES or length >= PIECE_BYTES:
            yield piece
            piece, length = [], 0
    if piece:
        yield piece


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, map(bytes.strip, lines))
        # A row over the limit is quarantined, so its end is not needed.
        rest = rest.lstrip()[: ROW_BYTES + 1]
    if rest := rest.strip():
        yield rest


def _split_small(body: bytes) -> Iterable[bytes]:
    lines = list(_split([body]))
    if len(lines) > 1 and not _is_json(lines[0]) and _is_json(body):
        return [body]
    return lines


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _chunks(body: bytes) -> Iterator[bytes]:
    return (body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES))


def _gunzip(body: bytes) -> Iterator[bytes]:
    position = 0
    try:
        while position < len(body):
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                if position >= len(body):
                    raise RequestError("the gzip stream ends too early")
                packed = body[position : position + GZIP_BYTES]
                position += len(packed)
                yield member.decompress(packed)
            position -= len(member.unused_data)
    except zlib.error:
        raise RequestError("the body is not gzip") from None


_unpackers: dict[str, Callable[[bytes], Iterator[bytes]]] = {"": _chunks, "identity": _chunks, "gzip": _gunzip}
