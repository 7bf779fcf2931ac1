from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import read_answer
from tests.support.store_process import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with running(tmp_path_factory.mktemp("store"), port):
        yield port


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
