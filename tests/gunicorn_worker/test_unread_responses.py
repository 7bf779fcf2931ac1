"""Test that nothing waits for a client that does not read its responses."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Running, Upstream, head, read_answer
from tests.support.request_heads import parse_head
from traffic_analytics.gunicorn_worker import event_loop
from traffic_analytics.gunicorn_worker.event_loop import DRAIN_LIMIT, EventLoop
from traffic_analytics.gunicorn_worker.serving_threads import ServingThreads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = 8_000_000
DEADLINE, UNSENT = 1.0, 20_000_000
APP = f"""
SERVED = []
BODY = bytes(range(250)) * ({LARGE} // 250)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    SERVED.append(path)
    body = BODY if path == "/large" else str(SERVED.count("/counted")).encode()
    start_response("200 OK", [("content-type", "text/plain")])
    return [body]
"""
CONF = """
import os
from traffic_analytics.gunicorn_worker import connection_table, event_loop

bind = f"127.0.0.1:{os.environ['PORT']}"
worker_class = "traffic_analytics.gunicorn_worker.buffering_worker.BufferingWorker"
threads = 2
"""


def start(directory: Path, conf: str) -> Running:
    (directory / "app.py").write_text(APP)
    (directory / "gunicorn.conf.py").write_text(conf)
    return Running(directory, "", "-c", "gunicorn.conf.py")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start(tmp_path_factory.mktemp("running"), CONF) as service:
        yield service


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def small_window(service: Running) -> socket.socket:
    """Connect as a client that accepts few bytes before it reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(15.0)
    sock.connect(("127.0.0.1", service.port))
    return sock


def test_clients_that_read_nothing_occupy_no_thread(running: Running) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(6):  # three times as many as threads
            clients.enter_context(small_window(running)).sendall(get("/large"))

        started = time.monotonic()
        for _ in range(5):
            assert running.get("/").status == 200
        assert time.monotonic() - started < 3.0


def test_a_slow_client_gets_the_whole_response_and_then_that_of_the_next_request(running: Running) -> None:
    with small_window(running) as sock, sock.makefile("rb") as stream:
        sock.sendall(get("/large") + get("/counted") + get("/large"))
        before = running.get("/").body
        time.sleep(0.2)
        assert running.get("/").body == before  # the pipelined request waits for the unsent response

        for path in ("/large", "/counted", "/large"):
            answer = read_answer(stream)
            assert answer.status == 200
            assert len(answer.body) == LARGE if path == "/large" else answer.body == b"%d" % (int(before) + 1)
        sock.sendall(get("/"))
        assert read_answer(stream).status == 200


def test_the_rest_of_a_response_is_sent_after_the_client_has_shut_down_its_sending_side(running: Running) -> None:
    with small_window(running) as sock, sock.makefile("rb") as stream:
        sock.sendall(get("/large"))
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.1)

        assert len(read_answer(stream).body) == LARGE
        assert stream.read() == b""


def test_a_response_that_is_not_read_in_time_is_cut_short(tmp_path: Path) -> None:
    conf = CONF + f"event_loop.WRITE_DEADLINE = {DEADLINE}\n"
    with start(tmp_path, conf) as service, small_window(service) as sock:
        sock.sendall(get("/large"))
        time.sleep(DEADLINE + 1.5)

        assert received_to_the_end(sock) < LARGE


def test_beyond_a_limit_of_unsent_bytes_the_oldest_responses_are_cut_short(tmp_path: Path) -> None:
    conf = CONF + f"connection_table.UNSENT_LIMIT = {UNSENT}\n"
    with start(tmp_path, conf) as service, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(small_window(service)) for _ in range(3 * UNSENT // LARGE)]
        for sock in clients:
            sock.sendall(get("/large"))
            assert sock.recv(1) == b"H"

        clients[0].settimeout(event_loop.WRITE_DEADLINE / 2)
        assert received_to_the_end(clients[0]) < LARGE
        with clients[-1].makefile("rb") as stream:
            clients[-1].settimeout(0.2)
            size = 0
            with contextlib.suppress(TimeoutError):
                while piece := stream.read1():
                    size += len(piece)
            assert size > LARGE


def received_to_the_end(sock: socket.socket) -> int:
    """Return how many bytes still arrive before the connection is closed or reset."""
    size = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65_536):
            size += len(piece)
    return size


def test_a_closing_connection_is_read_up_to_a_limit(tmp_path: Path) -> None:
    with Upstream() as upstream, Running(tmp_path, upstream.url) as service, service.connect() as sock:
        sock.sendall(head(b"Content-Length: 9000000000\r\n\r\n"))
        assert sock.recv(12) == b"HTTP/1.1 413"
        sock.settimeout(event_loop.DRAIN_DEADLINE / 4)
        sent, until = 0, time.monotonic() + event_loop.DRAIN_DEADLINE
        with contextlib.suppress(TimeoutError, ConnectionError):
            while time.monotonic() < until:
                sent += sock.send(b" " * 65_536)
    assert sent < DRAIN_LIMIT + 16_000_000  # the kernel's buffers hold the difference


def test_the_loop_does_not_wait_to_send_100_continue() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = EventLoop([listener], 10, 5.0, logging.getLogger(), parse_head, ServingThreads(lambda _: None))
        with socket.create_connection(listener.getsockname()) as client:
            loop.turn()
            (connection,) = loop.table.all
            for size in (*[10_000] * 20, *[1] * 20):  # the kernel moves some to the client meanwhile
                with contextlib.suppress(BlockingIOError):
                    while connection.sock.send(b"x" * size):
                        pass
                time.sleep(0.005)
            client.sendall(head(b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"))

            started = time.monotonic()
            while loop.table.all:
                loop.turn()
            assert time.monotonic() - started < 3.0
            received_to_the_end(client)
        loop.stop_accepting()
