from __future__ import annotations

import time

import pytest

from tests.support.raw_server import drip, server
from traffic_analytics.tinybird import pipes
from traffic_analytics.tinybird.pipes import Pipes, Reply

HEADERS = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"


def query(target: str) -> Reply:
    return Pipes(target, connections=1, monotonic=time.monotonic).get("/v0/pipes/api_kpis.json", "token")


@pytest.mark.parametrize("slow", [HEADERS + b" " * 1000, b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 99])
@pytest.mark.parametrize("behind_proxy", [False, True])
def test_a_slow_response_is_a_timeout_and_not_queried_again(
    slow: bytes, behind_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipes, "READ_TIMEOUT", 0.3)
    with server(lambda connection: drip(connection, slow)) as url:
        if behind_proxy:
            monkeypatch.setenv("HTTP_PROXY", url)
        started = time.monotonic()
        reply = query("http://statistics.example" if behind_proxy else url)

    assert reply.status == 504
    assert "Timeout" in reply.reason
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("target", ["http://127.0.0.1:9", "http://timeout.invalid"])
@pytest.mark.parametrize("behind_proxy", [False, True])
def test_a_connection_that_cannot_be_made_is_no_timeout(
    target: str, behind_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if behind_proxy:
        monkeypatch.setenv("HTTP_PROXY", target)

    reply = query("http://statistics.example" if behind_proxy else target)

    assert reply.status == 502


def test_a_connection_closed_without_a_response_is_queried_once_more() -> None:
    responses = [b"", b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{"n":1}']
    with server(lambda connection: connection.sendall(responses.pop(0))) as url:
        reply = query(url)

    assert (reply.status, reply.body, responses) == (200, b'{"n":1}', [])
