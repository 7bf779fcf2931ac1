from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests
import requests_mock

from tests.support.app import TARGET
from traffic_analytics.delivery.target import Verdict
from traffic_analytics.tinybird import events as tinybird
from traffic_analytics.tinybird.events import Tinybird, events_url, parse_retry_after, to_verdict


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("https://api.tinybird.co", "https://api.tinybird.co/v0/events"),
        ("https://api.tinybird.co/", "https://api.tinybird.co/v0/events"),
        ("https://api.tinybird.co/v0/events", "https://api.tinybird.co/v0/events"),
        ("http://127.0.0.1:3000/local-proxy", "http://127.0.0.1:3000/local-proxy"),
    ],
)
def test_a_bare_host_means_its_events_api_and_a_path_is_taken_at_its_word(target: str, url: str) -> None:
    assert events_url(target) == url


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.TAKEN),
        (202, Verdict.TAKEN),
        (302, Verdict.WRONG_SETUP),
        (400, Verdict.REFUSED),
        (401, Verdict.WRONG_SETUP),
        (403, Verdict.WRONG_SETUP),
        (404, Verdict.WRONG_SETUP),
        (408, Verdict.LATER),
        (413, Verdict.TOO_LARGE),
        (422, Verdict.REFUSED),
        (429, Verdict.TOO_FAST),
        (500, Verdict.LATER),
        (503, Verdict.LATER),
    ],
)
def test_each_status_means_one_thing(status: int, verdict: Verdict) -> None:
    assert to_verdict(status) is verdict


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "-7"}, 0.0),
        ({"X-RateLimit-Reset": "3"}, 3.0),
        ({"Retry-After": "7", "X-RateLimit-Reset": "3"}, 7.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Date": "x"}, None),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT", "Date": "Sun, 22 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT"}, None),
    ],
)
def test_how_long_to_wait_is_read_from_the_answer(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers) == seconds


def test_a_batch_leaves_compressed_for_another_machine_and_plain_for_this_one() -> None:
    events = [b'{"n":%d,"text":"%s"}' % (n, b"x" * 50) for n in range(100)]
    with requests_mock.Mocker() as mocker:
        mocker.post(requests_mock.ANY, json={"successful_rows": 100, "quarantined_rows": 2})
        for target in ("https://api.tinybird.co", "http://127.0.0.1:7181"):
            reply = Tinybird(target, "token", wait=False, connections=1).post_batch("analytics_events", events)
            assert (reply.verdict, reply.quarantined) == (Verdict.TAKEN, 2)
        far, near = mocker.request_history

    assert gzip.decompress(far.body) == near.body == b"\n".join(events)
    assert far.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in near.headers


@pytest.mark.parametrize("error", [requests.ConnectionError("https://host/?token=secret"), OSError("secret")])
def test_a_failure_is_named_without_what_it_quotes(error: Exception) -> None:
    with requests_mock.Mocker() as mocker:
        mocker.post(TARGET, exc=error)
        reply = Tinybird(TARGET, None, wait=False, connections=1).post("analytics_events", b"{}", "secret")

    assert reply.verdict is Verdict.LATER
    assert "secret" not in reply.reason


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen, read each request whole, and let `answer` do what it likes with the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                data = b""
                while b"\r\n\r\n{}" not in data:
                    data += connection.recv(65536)
                with suppress(OSError):
                    answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def drip(connection: socket.socket, text: bytes) -> None:
    for byte in text:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


@pytest.mark.parametrize(
    "slow",
    [
        b"HTTP/1.1 202 Accepted\r\n" + b"x-filler: y\r\n" * 100,
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\n" + b" " * 1000,
    ],
    ids=["headers", "body"],
)
def test_an_answer_that_drips_has_a_deadline(slow: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinybird, "READ_TIMEOUT", 0.5)
    with server(lambda connection: drip(connection, slow)) as url:
        started = time.monotonic()
        reply = Tinybird(url, "t", wait=False, connections=1).post("analytics_events", b"{}")
        took = time.monotonic() - started

    assert reply.verdict is Verdict.LATER
    assert 0.4 < took < 2.0


def test_a_reset_in_the_middle_of_an_answer_is_a_passing_failure() -> None:
    def reset(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    with server(reset) as url:
        reply = Tinybird(url, "t", wait=False, connections=1).post("analytics_events", b"{}")

    assert reply.verdict is Verdict.LATER


def test_an_answer_that_ends_with_its_connection_is_read_to_its_end() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 21\r\n\r\n")
        time.sleep(0.05)
        connection.sendall(b'{"successful_rows":1}')

    with server(answer) as url:
        reply = Tinybird(url, "t", wait=False, connections=1).post("analytics_events", b"{}")

    assert (reply.verdict, reply.body) == (Verdict.TAKEN, b'{"successful_rows":1}')


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b'HTTP/1.1 202 Accepted\r\ncontent-length: 7\r\n\r\n{"n":1}', Verdict.TAKEN),
        (b'HTTP/1.1 202 Accepted\r\nContent-Length:7\r\n\r\n{"n":1}', Verdict.TAKEN),
        (
            b'HTTP/1.1 202 Accepted\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\n{"n\r\n4\r\n":1}\r\n0\r\n\r\n',
            Verdict.TAKEN,
        ),
        (b'HTTP/1.1 202 Accepted\r\n\r\n{"n":1}', Verdict.TAKEN),
        (b'HTTP/1.0 202 Accepted\r\n\r\n{"n":1}', Verdict.TAKEN),
        (
            b'HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 202 OK\r\ncontent-length: 7\r\n\r\n{"n":1}',
            Verdict.TAKEN,
        ),
        (b'HTTP/1.1 202 Accepted\r\nno colon\r\n\r\n{"n":1}', Verdict.LATER),
        (b"HTTP/1.1 202 Accepted\r\n" + b"x: y\r\n" * 101 + b"\r\n", Verdict.LATER),
        (b"HTTP/1.1 202 Accepted\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", Verdict.LATER),
        (b'HTTP/1.1 202 Accepted\r\ncontent-length: 70\r\n\r\n{"n":1}', Verdict.LATER),
        (b"no HTTP at all\r\n\r\n", Verdict.LATER),
    ],
    ids=range(11),
)
def test_an_answer_is_read_however_it_is_framed(answer: bytes, verdict: Verdict) -> None:
    with server(lambda connection: connection.sendall(answer)) as url:
        reply = Tinybird(url, "t", wait=False, connections=1).post("analytics_events", b"{}")

    assert (reply.verdict, reply.body) == (verdict, b'{"n":1}' if verdict is Verdict.TAKEN else b"{}")


def test_a_large_batch_may_take_longer_to_leave_than_a_connection_to_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinybird, "CONNECT_TIMEOUT", 0.2)
    listener = socket.create_server(("127.0.0.1", 0))

    def take_slowly() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            received = 0
            while received < 8_000_000:
                received += len(connection.recv(200_000))
                time.sleep(0.01)
            connection.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}")

    thread = threading.Thread(target=take_slowly, daemon=True)
    thread.start()
    client = Tinybird(f"http://127.0.0.1:{listener.getsockname()[1]}", "t", wait=False, connections=1)
    started = time.monotonic()
    reply = client.post_batch("analytics_events", [b"x" * 8_000_000])
    listener.close()

    assert reply.verdict is Verdict.TAKEN
    assert time.monotonic() - started > 0.3


def test_the_deadline_holds_behind_a_proxy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinybird, "READ_TIMEOUT", 0.5)
    slow = b"HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\n" + b" " * 1000
    with server(lambda connection: drip(connection, slow)) as url:
        monkeypatch.setenv("HTTP_PROXY", url)
        started = time.monotonic()
        reply = Tinybird("http://tinybird.example", "t", wait=False, connections=1).post("analytics_events", b"{}")

    assert reply.verdict is Verdict.LATER
    assert time.monotonic() - started < 2.0


@pytest.mark.parametrize(
    ("status", "passed_on"), [(200, 200), (201, 201), (202, 202), (204, 202), (206, 202), (299, 202)]
)
def test_only_statuses_that_mean_something_to_a_browser_are_passed_on(status: int, passed_on: int) -> None:
    with requests_mock.Mocker() as mocker:
        mocker.post(TARGET, status_code=status, text="{}")
        reply = Tinybird(TARGET, "t", wait=False, connections=1).post("analytics_events", b"{}")

    assert (reply.verdict, reply.status) == (Verdict.TAKEN, passed_on)


def test_connections_are_kept_alive_and_a_request_is_one_write() -> None:
    pieces: list[bytes] = []
    connections: list[Any] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connections.append(connection)
        for _ in range(3):
            pieces.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}")
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = Tinybird(f"http://127.0.0.1:{listener.getsockname()[1]}", "t", wait=False, connections=1)
    verdicts = [client.post("analytics_events", b'{"n":1}').verdict for _ in range(3)]
    thread.join(5)
    listener.close()

    assert verdicts == [Verdict.TAKEN] * 3
    assert len(connections) == 1
    assert all(piece.startswith(b"POST ") and piece.endswith(b'\r\n\r\n{"n":1}') for piece in pieces)
