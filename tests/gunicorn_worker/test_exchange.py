"""Test the cost of one request in memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gunicorn.config import Config

from traffic_analytics.gunicorn_worker.exchange import Exchange, copy_config

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = copy_config(Config())


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [b"%d" % len(environ["wsgi.input"].read())]


def cost(count: int) -> float:
    """Return the CPU seconds that a body of one-byte chunks takes."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = head + b"1\r\nx\r\n" * count + b"0\r\n\r\n"
    times = []
    for _ in range(5):
        started = time.process_time()
        response, _ = Exchange(data, ("192.0.2.1", 1), ("", 80), CONFIG).respond(app, keep_alive=True)
        times.append(time.process_time() - started)
        assert response.endswith(b"\r\n\r\n%d" % count)
    return min(times)


def test_the_cost_of_a_body_grows_no_faster_than_the_number_of_its_chunks() -> None:
    assert cost(10_000) / cost(500) < 35  # 20 times as many chunks; copying the rest for each costs 52 times as much
