"""Test one request in memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest

from tests.support.request_heads import parse_head
from traffic_analytics.gunicorn_worker.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT = ("192.0.2.1", 1)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [b"%d" % len(environ["wsgi.input"].read())]


def cost(count: int) -> float:
    """Return the CPU seconds that a body of one-byte chunks takes."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = b"1\r\nx\r\n" * count + b"0\r\n\r\n"
    times = []
    for _ in range(5):
        started = time.process_time()
        exchange = Exchange(parse_head(head), data)
        exchange.start(app, CLIENT)
        response, _ = exchange.respond(keep_alive=True)
        times.append(time.process_time() - started)
        assert response.endswith(b"\r\n\r\n%d" % count)
    return min(times)


def test_the_cost_of_a_body_grows_no_faster_than_the_number_of_its_chunks() -> None:
    assert cost(10_000) / cost(500) < 35  # 20 times as many chunks; copying the rest for each costs 52 times as much


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("framing", [b"", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_the_environment_is_that_of_the_wsgi_specification(method: str, framing: bytes) -> None:
    head = method.encode() + b" /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n" + framing + b"\r\n"
    body = {b"": b"", b"C": b"body"}.get(framing[:1], b"4\r\nbody\r\n0\r\n\r\n")

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("content-type", "text/plain")])
        return [environ["wsgi.input"].read(10)]

    exchange = Exchange(parse_head(head), body)
    exchange.start(validator(checked), CLIENT)
    response, _ = exchange.respond(keep_alive=True)

    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert response.endswith(b"\r\n\r\nbody" if framing and method != "HEAD" else b"\r\n\r\n")


def test_a_response_without_a_status_is_an_error_of_the_application() -> None:
    exchange = Exchange(parse_head(b"GET / HTTP/1.1\r\n\r\n"), b"")
    exchange.start(lambda _environ, _start_response: [b"x"], CLIENT)

    assert exchange.respond(keep_alive=True)[0].startswith(b"HTTP/1.1 500 ")
