from __future__ import annotations

import gzip
import socket
import threading
import time
from typing import Any

import pytest
import requests
import requests_mock

from tests.support.app import TARGET
from tests.support.raw_server import drip, server
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
def test_a_target_without_a_path_gets_that_of_the_events_api(target: str, url: str) -> None:
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
def test_each_status_has_its_verdict(status: int, verdict: Verdict) -> None:
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
def test_the_time_to_wait_is_read_from_the_response(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers) == seconds


def test_a_batch_is_compressed_for_another_machine_and_plain_for_this_one() -> None:
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
def test_the_reason_of_a_failure_quotes_neither_url_nor_token(error: Exception) -> None:
    with requests_mock.Mocker() as mocker:
        mocker.post(TARGET, exc=error)
        reply = Tinybird(TARGET, None, wait=False, connections=1).post("analytics_events", [b"{}"], "secret")

    assert reply.verdict is Verdict.LATER
    assert "secret" not in reply.reason


@pytest.mark.parametrize(
    "slow",
    [
        b"HTTP/1.1 202 Accepted\r\n" + b"x-filler: y\r\n" * 100,
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\n" + b" " * 1000,
    ],
    ids=["headers", "body"],
)
def test_a_response_that_arrives_byte_by_byte_has_a_deadline(slow: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinybird, "READ_TIMEOUT", 0.5)
    with server(lambda connection: drip(connection, slow)) as url:
        started = time.monotonic()
        reply = Tinybird(url, "t", wait=False, connections=1).post("analytics_events", [b"{}"])
        took = time.monotonic() - started

    assert reply.verdict is Verdict.LATER
    assert 0.4 < took < 2.0


def test_a_reset_in_the_middle_of_a_response_is_a_transient_failure() -> None:
    def reset(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    with server(reset) as url:
        reply = Tinybird(url, "t", wait=False, connections=1).post("analytics_events", [b"{}"])

    assert reply.verdict is Verdict.LATER


def test_a_response_that_ends_with_its_connection_is_read_to_its_end() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 21\r\n\r\n")
        time.sleep(0.05)
        connection.sendall(b'{"successful_rows":1}')

    with server(answer) as url:
        reply = Tinybird(url, "t", wait=False, connections=1).post("analytics_events", [b"{}"])

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
        (b"HTTP/1.1 2020 Accepted\r\n\r\n{}", Verdict.LATER),
        (b"HTTP/2 202\r\n\r\n{}", Verdict.LATER),
        (b"HTTP/1.1 202 " + b"y" * 70_000 + b"\r\n\r\n", Verdict.LATER),
        (b"", Verdict.LATER),
        (b'HTTP/1.1 202\r\ncontent-length: 7\r\n\r\n{"n":1}', Verdict.TAKEN),
        (b'HTTP/1.1 202 Accepted\ncontent-length: 7\n\n{"n":1}', Verdict.TAKEN),
        (b'HTTP/1.0 202 Accepted\r\nconnection: keep-alive\r\ncontent-length: 7\r\n\r\n{"n":1}', Verdict.TAKEN),
    ],
    ids=range(18),
)
def test_a_response_is_read_in_every_framing(answer: bytes, verdict: Verdict) -> None:
    with server(lambda connection: connection.sendall(answer)) as url:
        reply = Tinybird(url, "t", wait=False, connections=1).post("analytics_events", [b"{}"])

    assert (reply.verdict, reply.body) == (verdict, b'{"n":1}' if verdict is Verdict.TAKEN else b"{}")


@pytest.mark.parametrize("behind_proxy", [False, True])
def test_a_redirect_is_not_followed(behind_proxy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    redirect = b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/elsewhere\r\ncontent-length: 0\r\n\r\n"
    with server(lambda connection: connection.sendall(redirect)) as url:
        if behind_proxy:
            monkeypatch.setenv("HTTP_PROXY", url)
        target = "http://tinybird.example" if behind_proxy else url
        reply = Tinybird(target, "t", wait=False, connections=1).post("analytics_events", [b"{}"])

    assert (reply.verdict, reply.reason) == (Verdict.WRONG_SETUP, "status 302")


def test_sending_a_large_batch_may_take_longer_than_the_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinybird, "CONNECT_TIMEOUT", 0.2)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept_slowly() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            received = 0
            while received < 8_000_000:
                received += len(connection.recv(200_000))
                time.sleep(0.01)
            connection.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}")

    thread = threading.Thread(target=accept_slowly, daemon=True)
    thread.start()
    client = Tinybird(f"http://127.0.0.1:{listener.getsockname()[1]}", "t", wait=False, connections=1)
    started = time.monotonic()
    reply = client.post_batch("analytics_events", [b"x" * 8_000_000])
    listener.close()

    assert reply.verdict is Verdict.TAKEN
    assert time.monotonic() - started > 0.3


def test_the_deadline_holds_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinybird, "READ_TIMEOUT", 0.5)
    slow = b"HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\n" + b" " * 1000
    with server(lambda connection: drip(connection, slow)) as url:
        monkeypatch.setenv("HTTP_PROXY", url)
        started = time.monotonic()
        reply = Tinybird("http://tinybird.example", "t", wait=False, connections=1).post("analytics_events", [b"{}"])

    assert reply.verdict is Verdict.LATER
    assert time.monotonic() - started < 2.0


@pytest.mark.parametrize(
    ("status", "passed_on"), [(200, 200), (201, 201), (202, 202), (204, 202), (206, 202), (299, 202)]
)
def test_statuses_that_mean_the_same_to_a_browser_are_202(status: int, passed_on: int) -> None:
    with requests_mock.Mocker() as mocker:
        mocker.post(TARGET, status_code=status, text="{}")
        reply = Tinybird(TARGET, "t", wait=False, connections=1).post("analytics_events", [b"{}"])

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
    verdicts = [client.post("analytics_events", [b'{"n":1}']).verdict for _ in range(3)]
    thread.join(5)
    listener.close()

    assert verdicts == [Verdict.TAKEN] * 3
    assert len(connections) == 1
    assert all(piece.startswith(b"POST ") and piece.endswith(b'\r\n\r\n{"n":1}') for piece in pieces)
