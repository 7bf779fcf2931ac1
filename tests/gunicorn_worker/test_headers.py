"""Test which headers are accepted, and how the lists of `Connection` and `Expect` are read."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Running, Upstream, head, hit, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Upstream() as upstream, Running(tmp_path_factory.mktemp("running"), upstream.url) as service:
        yield service


NODE_LIMIT = 16_384
USUAL = len(hit().partition(b"\r\n\r\n")[0]) - len(hit().partition(b"\r\n")[0])


@pytest.mark.parametrize(
    "cookies",
    [
        b"Cookie: a=" + b"x" * 8_192 + b"\r\n",
        b"Cookie: a=" + b"x" * 15_360 + b"\r\n",
        b"Cookie: a=" + b"x" * (NODE_LIMIT - USUAL - 20) + b"\r\n",
        b"Cookie: name=value\r\n" * 70,
        b"".join(b"X-%d: %s\r\n" % (number, b"x" * 150) for number in range(90)),
    ],
    ids=["8 KB", "15 KB", "16 KB with all other headers", "70 lines", "95 lines"],
)
def test_a_hit_with_the_cookies_of_a_blog_is_accepted(cookies: bytes, running: Running) -> None:
    assert running.say(hit(cookies)).status == 202


@pytest.mark.parametrize(
    "headers",
    [
        b"Cookie: a=" + b"x" * 17_000 + b"\r\n",
        b"Cookie: a=" + b"x" * 9_000 + b"\r\nX: " + b"x" * 9_000 + b"\r\n",
        b"".join(b"X-%d: %s\r\n" % (number, b"x" * 250) for number in range(80)),
        b"Cookie: a=" + b"x" * 60_000 + b"\r\n",
        b"Cookie: a=" + b"x" * 200_000 + b"\r\n",
        b"Cookie: a=b\r\n" * 101,
    ],
    ids=["one line", "two lines", "many lines", "60 KB", "200 KB", "101 lines"],
)
def test_larger_headers_are_refused_in_the_form_of_all_errors(headers: bytes, running: Running) -> None:
    answer = running.say(hit(headers))

    assert answer.status == answer.json["statusCode"] == 431
    assert answer.json["error"] == "Request Header Fields Too Large"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("version", "headers", "is_kept"),
    [
        ("1.1", b"", True),
        ("1.1", b"Connection: keep-alive\r\n", True),
        ("1.1", b"Connection: TE\r\n", True),
        ("1.1", b"Connection: closed, not-close\r\n", True),
        ("1.1", b"Connection:\r\n", True),
        ("1.1", b"Connection: close\r\n", False),
        ("1.1", b"Connection: TE, close\r\n", False),
        ("1.1", b"Connection: close, TE\r\n", False),
        ("1.1", b"connection:keep-alive,close\r\n", False),
        ("1.1", b"Connection: CLOSE ,\tTE\r\n", False),
        ("1.1", b"Connection: , ,Close,\r\n", False),
        ("1.1", b"Connection: TE\r\nX: y\r\nCONNECTION: close\r\n", False),
        ("1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        ("1.0", b"", False),
        ("1.0", b"Connection: TE\r\n", False),
        ("1.0", b"Connection: Keep-Alive\r\n", True),
        ("1.0", b"Connection: TE, keep-alive\r\n", True),
        ("1.0", b"Connection: TE\r\nConnection: keep-alive\r\n", True),
        ("1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_a_connection_is_kept_as_its_options_say(version: str, headers: bytes, is_kept: bool, running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(hit(headers, version=version))
        answer = read_answer(stream)
        assert answer.status == 202
        assert answer.headers["connection"] == ("keep-alive" if is_kept else "close")
        if is_kept:
            sock.sendall(hit(b"Connection: close\r\n"))
            assert read_answer(stream).status == 202
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("version", "expectation", "is_sent"),
    [("1.1", b"100-continue", True), ("1.1", b"100-Continue ", True), ("1.0", b"100-continue", False)],
)
def test_100_continue_is_sent_to_clients_of_http_1_1_that_expect_it(
    version: str, expectation: bytes, is_sent: bool, running: Running
) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(head(b"Expect: " + expectation + b"\r\nContent-Length: 2\r\n\r\n", version=version))
        if is_sent:
            assert read_answer(stream).status == 100
        else:
            assert not select.select([sock], [], [], 0.5)[0]
        sock.sendall(b"{}")
        assert read_answer(stream).status == 400


@pytest.mark.parametrize("expectation", [b"200-ok", b"100-continue, more", b"100-continue\r\nExpect: more", b""])
def test_any_other_expectation_is_refused_before_the_body_is_sent(expectation: bytes, running: Running) -> None:
    answer = running.say(head(b"Expect: " + expectation + b"\r\nContent-Length: 2\r\n\r\n"))

    assert answer.status == answer.json["statusCode"] == 417
    assert answer.headers["access-control-allow-origin"] == "*"
