"""Stop workers while they serve, and start them again."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.support.app import page_hit
from tests.support.processes import CHUNKED, PATIENCE, Running, Upstream, head, hit, read_answer, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = json.dumps(page_hit()).encode()


class StartService(Protocol):
    def __call__(self, target: str, **environment: str) -> Running: ...


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[StartService]:
    services: list[Running] = []

    def start(target: str, **environment: str) -> Running:
        services.append(Running(tmp_path, target, **environment))
        return services[-1]

    yield start
    for service in services:
        service.stop()


def test_a_stopping_worker_finishes_the_hit_that_it_serves(start_service: StartService) -> None:
    with Upstream() as upstream:
        upstream.delay = 2.5  # longer than the worker waits for its threads at the end
        service = start_service(upstream.url)
        with service.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(hit())
            wait_until(lambda: upstream.events)
            started = time.monotonic()
            service.process.send_signal(signal.SIGTERM)

            assert read_answer(stream).status == 202
        assert service.stop() == 0
        assert time.monotonic() - started < 8.0


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_idle_connections_do_not_delay_the_stop(
    sig: signal.Signals, start_service: StartService, upstream: Upstream
) -> None:
    service = start_service(upstream.url)
    with service.connect() as kept, kept.makefile("rb") as stream, service.connect() as silent:
        kept.sendall(hit())
        read_answer(stream)
        started = time.monotonic()
        service.process.send_signal(sig)

        assert service.process.wait(PATIENCE) == 0
        assert time.monotonic() - started < 5.0
        assert silent.recv(1) == b""


def test_workers_and_restarts_derive_the_same_session_id(start_service: StartService) -> None:
    with Upstream() as upstream:
        for _ in range(2):
            service = start_service(upstream.url, WEB_CONCURRENCY="2")
            for _ in range(10):
                assert service.hit().status == 202
            service.stop()

        assert len(upstream.events) == 20
        assert len({event["session_id"] for event in upstream.events}) == 1


def test_the_log_holds_nothing_of_a_visitor(start_service: StartService, upstream: Upstream) -> None:
    service = start_service(upstream.url, LOG_LEVEL="trace", TINYBIRD_TRACKER_TOKEN="our-own-secret")
    private = b"X-Forwarded-For: 203.0.113.77\r\nCookie: a=private-cookie\r\n"
    target = "/api/v1/page_hit?name=analytics_events&token=private-token"
    requests = [
        head(private, target) + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
        head(private, target) + b"Content-Length: 9\r\n\r\n{private}",
        head(private, target) + b"Content-Length: 9000000\r\n\r\n",
        head(private, target) + CHUNKED + b"private\r\n\r\n",
        head(private + b"X: " + b"x" * 17_000 + b"\r\n\r\n", target),
        head(private + b"private header\r\n\r\n", target),
        b"private garbage 203.0.113.77\r\n\r\n",
        b"GET /private HTTP/1.1\r\n" + private + b"\r\n",
    ]
    for request in requests:
        with service.connect("127.0.0.9") as sock:
            sock.sendall(request)
            assert sock.recv(100).startswith(b"HTTP/1.1 ")
    with service.connect("127.0.0.9") as sock:
        sock.sendall(requests[0][:-5])

    assert service.stop() == 0
    output = service.output
    for line in output.splitlines():
        assert {"time", "level", "event", "message"} <= set(json.loads(line))
    for word in ("private", "203.0.113.77", "127.0.0.9", "our-own-secret", "page_hit", "Firefox", "Traceback"):
        assert word not in output
