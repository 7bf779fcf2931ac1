"""Test where a request ends, with valid, invalid and endless ones."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.request_heads import parse_head
from traffic_analytics.gunicorn_worker.request_framing import BODY_LIMIT, HEAD_LIMIT, Progress, RequestFraming


class Sent(NamedTuple):
    data: bytes
    head: int
    expects: bool


LINES = [
    b"Host: x",
    b"X-Note: content-length: 7",
    b"X-Content-Length: 7",
    b"Accept: */*",
    b"X-Transfer: transfer-encoding: chunked",
]
PIECES = st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"5\r\n", b""]))


@st.composite
def sent_requests(draw: st.DrawFn) -> Sent:
    """Generate requests that the parser accepts."""
    lines = draw(st.lists(st.sampled_from(LINES), max_size=4, unique=True))
    expects = draw(st.booleans())
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    pieces = draw(st.lists(PIECES, max_size=5)) if framing != "none" else []
    body = b"".join(pieces)
    if framing == "length":
        name = draw(
            st.sampled_from([b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH:\t", b"Content-Length:  0"])
        )
        lines.append(name + b"%d" % len(body))
    if framing == "chunked":
        lines.append(draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked"])))
        size = draw(st.sampled_from([b"%x", b"%X", b"000%x", b"000000000000%x", b"%x;a=b"]))
        trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"X-Sum: 1\r\nX-More: 2\r\n"]))
        body = b"".join(size % len(piece) + b"\r\n" + piece + b"\r\n" for piece in pieces if piece)
        body += b"0\r\n" + trailer + b"\r\n"
    if expects:
        lines.append(b"Expect: 100-continue")
    head = b"\r\n".join([b"POST / HTTP/1.1", *draw(st.permutations(lines))]) + b"\r\n\r\n"
    return Sent(head + body, len(head), expects)


@given(sent_requests(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_request_is_complete_with_its_last_byte_and_not_before(sent: Sent, data: st.DataObject) -> None:
    inner = st.integers(1, len(sent.data) - 1)
    cuts = sorted(data.draw(st.one_of(st.just(range(1, len(sent.data))), st.sets(inner))))
    framing, arrived = RequestFraming(parse_head), bytearray()

    for at in cuts:
        arrived += sent.data[len(arrived) : at]
        expected = Progress.EXPECTS_CONTINUE if sent.expects and at >= sent.head else Progress.INCOMPLETE
        assert framing.progress(arrived) is expected
    arrived += sent.data[len(arrived) :]
    assert framing.progress(arrived) is Progress.COMPLETE


@given(sent_requests(), st.binary(min_size=1, max_size=50), st.data())
@settings(max_examples=200, deadline=None)
def test_a_request_stays_complete_whatever_follows_it(sent: Sent, ahead: bytes, data: st.DataObject) -> None:
    framing, arrived = RequestFraming(parse_head), bytearray()
    if cut := data.draw(st.integers(0, len(sent.data) - 1)):
        arrived += sent.data[:cut]
        framing.progress(arrived)

    arrived += sent.data[len(arrived) :] + ahead

    assert framing.progress(arrived) is Progress.COMPLETE
    assert framing.progress(arrived) is Progress.COMPLETE


@given(st.lists(st.binary(max_size=200), max_size=10))
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_an_error(pieces: list[bytes]) -> None:
    for start in (b"", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"):
        framing, arrived = RequestFraming(parse_head), bytearray(start)
        for piece in pieces:
            arrived += piece
            assert framing.progress(arrived) in Progress


@pytest.mark.parametrize(
    ("head", "filler", "limit"),
    [
        (b"GET /", b"x", HEAD_LIMIT + 100),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n", HEAD_LIMIT + 100),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\n12345\r\n", BODY_LIMIT + 200),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x", BODY_LIMIT + 200),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", BODY_LIMIT + 200),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % BODY_LIMIT, b"x", BODY_LIMIT + 100),
    ],
)
def test_a_request_without_an_end_counts_as_complete_at_its_limit(head: bytes, filler: bytes, limit: int) -> None:
    framing, arrived = RequestFraming(parse_head), bytearray(head)

    while framing.progress(arrived) is Progress.INCOMPLETE:
        arrived += filler * 50
        assert len(arrived) <= limit + 50 * len(filler)


@pytest.mark.parametrize("length", [str(BODY_LIMIT + 1), "10000000", "9" * 30, "9" * 400, "9" * 6000])
def test_a_body_beyond_the_limit_is_not_read(length: str) -> None:
    head = f"POST / HTTP/1.1\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"

    assert RequestFraming(parse_head).progress(bytearray(head.encode())) in (Progress.COMPLETE, Progress.TOO_LONG)


@pytest.mark.parametrize("value", [b"5x", b"-5", b"+5", b"5, 5", b"0x5", b"5 5", b"5.0"])
def test_an_invalid_length_counts_as_complete(value: bytes) -> None:
    for more in (b"", b"\r\nHost: x"):
        head = b"POST / HTTP/1.1\r\nContent-Length: " + value + more + b"\r\n\r\n"

        assert RequestFraming(parse_head).progress(bytearray(head)) is Progress.COMPLETE


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_the_framing_of_chunks_counts_towards_the_limit_of_the_body() -> None:
    chunk, last = b"1\r\nx\r\n", b"0\r\n\r\n"
    most = (BODY_LIMIT - len(last)) // len(chunk)

    for count, expected in ((most, Progress.COMPLETE), (most + 1, Progress.TOO_LONG)):
        assert RequestFraming(parse_head).progress(bytearray(CHUNKED + chunk * count + last)) is expected
        assert (
            RequestFraming(parse_head).progress(bytearray(CHUNKED + chunk * count + last + b"next" * 20_000))
            is expected
        )


class Searched(bytearray):
    """Buffer that counts the bytes that are searched."""

    searched = 0

    def find(self, needle: bytes, start: int = 0) -> int:  # type: ignore[override]
        found = super().find(needle, start)
        self.searched += (found if found >= 0 else len(self)) - start
        return found


@pytest.mark.parametrize(
    "start",
    [b"", b"GET / HTTP/1.1\r\nX: ", CHUNKED, CHUNKED + b"5;", CHUNKED + b"2000\r\n", CHUNKED + b"0\r\n"],
    ids=["request line", "header", "size", "extension", "chunk", "trailer"],
)
def test_bytes_that_come_one_by_one_are_searched_once(start: bytes) -> None:
    framing, arrived = RequestFraming(parse_head), Searched(start)

    for _ in range(8_000):
        arrived += b"0"
        framing.progress(arrived)

    assert arrived.searched < 5 * len(arrived)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("value", [b"100-continue", b"100-CONTINUE", b" \t100-continue\t ", b"other", b""])
def test_only_http_1_1_waits_for_100_continue_and_other_expectations_for_nothing(version: bytes, value: bytes) -> None:
    head = b"POST / HTTP/" + version + b"\r\nExpect:" + value + b"\r\nContent-Length: 5\r\n\r\n"
    if b"100" not in value:
        expected = Progress.COMPLETE
    else:
        expected = Progress.EXPECTS_CONTINUE if version == b"1.1" else Progress.INCOMPLETE

    assert RequestFraming(parse_head).progress(bytearray(head)) is expected
