"""HTTP that the server itself reads: refused requests are answered as JSON, and connections kept or closed."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import free_port, read_answer
from tests.support.store_process import running
from traffic_analytics.runtime.query_parameters import PARAMETERS_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with running(tmp_path_factory.mktemp("store"), port):
        yield port


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (b"GET /?%s HTTP/1.1\r\n\r\n" % (b"x" * PARAMETERS_LIMIT), 414, "the URL is longer than 32768 bytes"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "the headers are too long"),
        (b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"y" * 20_000), 431, "the headers are too long"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "not valid HTTP"),
        (b"nonsense\r\n\r\n", 400, "not valid HTTP"),
        (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400, "not valid HTTP"),
        (b"POST /v0/events HTTP/1.1\r\nTransfer-Encoding: hush\r\n\r\n", 400, "not valid HTTP"),
    ],
    ids=["long URL", "many headers", "long header", "version", "nonsense", "header", "coding"],
)
def test_a_request_that_cannot_be_read_is_refused_with_json(
    request_bytes: bytes, status: int, words: str, port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as sock, sock.makefile("rb") as stream:
        sock.sendall(request_bytes)
        answer = read_answer(stream)

        assert stream.read() == b""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert words in answer.json["error"]
    assert "127.0.0.1" not in capfd.readouterr().out


def test_a_url_of_the_longest_length_is_read(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as sock, sock.makefile("rb") as stream:
        head, tail = b"GET /?", b" HTTP/1.1"
        sock.sendall(head + b"x" * (PARAMETERS_LIMIT - len(head + tail) - 2) + tail + b"\r\nConnection: close\r\n\r\n")

        assert read_answer(stream).status == 200


@pytest.mark.parametrize(
    ("headers", "is_kept"),
    [
        ("", True),
        ("Connection: TE\r\n", True),
        ("Connection: closed\r\n", True),
        ("Connection: close\r\n", False),
        ("Connection: TE, close\r\n", False),
        ("Connection: Close\t,TE\r\n", False),
        ("Connection: keep-alive\r\nConnection: close\r\n", False),
    ],
)
def test_a_connection_is_kept_as_its_options_say(headers: str, is_kept: bool, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as sock, sock.makefile("rb") as stream:
        sock.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        answer = read_answer(stream)

        assert answer.status == 200
        assert answer.headers["connection"] == ("keep-alive" if is_kept else "close")
        if not is_kept:
            assert stream.read() == b""
