"""Test the worker as HTTP clients see it, good, slow and hostile ones."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.app import page_hit
from tests.support.processes import CHUNKED, Running, Upstream, chunks, head, hit, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = json.dumps(page_hit()).encode()


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one worker with two threads, so that two clients can occupy all."""
    with Running(tmp_path_factory.mktemp("running"), upstream.url, LOG_LEVEL="debug") as service:
        yield service


def test_a_connection_serves_one_hit_after_another(running: Running, upstream: Upstream) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        for number in range(5):
            sock.sendall(hit(event_id=f"kept-{number}"))
            answer = read_answer(stream)
            assert answer.status == 202
            assert answer.json == {"successful_rows": 1, "quarantined_rows": 0}
            assert answer.headers.get("connection", "").lower() != "close"

    assert [event["payload"]["event_id"] for event in upstream.events[-5:]] == [f"kept-{n}" for n in range(5)]


def test_connections_to_tinybird_are_kept_alive(running: Running, upstream: Upstream) -> None:
    running.hit()
    before = upstream.connections

    for _ in range(5):
        assert running.hit().status == 202
    assert upstream.connections <= before + 1  # two threads may need two


@pytest.mark.parametrize("pieces", [1, 2, 7, 50])
def test_pipelined_requests_are_answered_in_order(pieces: int, running: Running) -> None:
    info, lost = (b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/info", b"/nowhere"))
    everything = info + hit() + lost + head(CHUNKED) + chunks(BODY) + lost + info
    size = -(-len(everything) // pieces)

    with running.connect() as sock, sock.makefile("rb") as stream:
        for at in range(0, len(everything), size):
            sock.sendall(everything[at : at + size])
            time.sleep(0.002)
        assert [read_answer(stream).status for _ in range(6)] == [200, 202, 404, 202, 404, 200]


@pytest.mark.parametrize(
    "body",
    [
        chunks(BODY),
        chunks(BODY, 1),
        chunks(BODY, 100_000),
        chunks(BODY, extension=b';name="value"'),
        chunks(BODY, trailer=b"X-Checksum: 5\r\n"),
    ],
    ids=["small", "bytes", "one", "extension", "trailer"],
)
def test_a_chunked_hit_is_accepted_and_the_connection_stays_usable(body: bytes, running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        for _ in range(2):
            sock.sendall(head(CHUNKED) + body)
            assert read_answer(stream).status == 202


def test_a_hit_in_small_pieces_is_accepted(running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = hit()
        for at in range(0, len(data), 5):
            sock.sendall(data[at : at + 5])
        assert read_answer(stream).status == 202


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n" % len(BODY), CHUNKED], ids=["length", "chunked"])
def test_a_client_that_expects_100_continue_receives_it(framing: bytes, running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(head(b"Expect: 100-continue\r\n" + framing))
        assert read_answer(stream).status == 100

        sock.sendall(chunks(BODY) if framing == CHUNKED else BODY)
        answer = read_answer(stream)
        if answer.status == 100:  # a second 100 is allowed
            answer = read_answer(stream)
        assert answer.status == 202


def test_http_1_0_is_answered_and_closed(running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(hit(version="1.0"))

        assert read_answer(stream).status == 202
        assert stream.read() == b""


@pytest.mark.parametrize("later", [False, True])
def test_a_client_that_shut_down_its_sending_side_still_gets_the_response(later: bool, running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(hit())
        if later:
            time.sleep(0.01)
        sock.shutdown(socket.SHUT_WR)

        assert read_answer(stream).status == 202
        assert stream.read() == b""


def test_pipelined_requests_are_answered_after_the_client_shut_down_its_sending_side(running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(hit() * 3)
        sock.shutdown(socket.SHUT_WR)

        assert [read_answer(stream).status for _ in range(3)] == [202] * 3
        assert stream.read() == b""


def test_a_client_that_pipelines_many_requests_gets_every_response(running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        count = 100  # far more than the loop reads ahead
        threading.Thread(target=sock.sendall, args=[hit() * count], daemon=True).start()

        assert [read_answer(stream).status for _ in range(count)] == [202] * count


def test_a_body_of_very_small_chunks_is_refused_instead_of_parsed(running: Running) -> None:
    answer = running.say(head(CHUNKED) + chunks(BODY + b" " * 15_000, 1))

    assert answer.status == answer.json["statusCode"] == 413
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("part", [b"", b"P", head(), head(b"Content-Length: 500\r\n\r\n{"), head(CHUNKED) + b"5\r\n"])
def test_a_client_that_leaves_early_gets_nothing_and_harms_no_other(part: bytes, running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(part)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(5.0)  # half of the deadline of a client that may still send
        assert sock.recv(100) in (b"", b"HTTP/1.1 400 Bad Request\r\n")

    assert running.hit().status == 202


def test_a_body_of_ten_megabytes_is_refused_before_it_is_sent(running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(head(b"Content-Length: 10000000\r\n\r\n"))

        answer = read_answer(stream)
        assert answer.status == 413
        assert answer.json["statusCode"] == 413
        assert answer.headers["access-control-allow-origin"] == "*"
        sock.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")  # the start of that body
        assert stream.readline() in (b"", b"HTTP/1.1 400 Bad Request\r\n")


def send_until_answered(sock: socket.socket, piece: bytes, limit: int) -> None:
    """Send until there is a response; a reset may lose it."""
    sent = 0
    while not select.select([sock], [], [], 0)[0]:
        assert sent < limit, "the body is read without end"
        sent += sock.send(piece)


@pytest.mark.parametrize(
    ("framing", "piece"),
    [(b"Content-Length: 9000000000\r\n\r\n", b" " * 4096), (CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n")],
    ids=["length", "chunked"],
)
def test_an_endless_body_is_refused_while_it_is_being_sent(framing: bytes, piece: bytes, running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(head(framing))
        send_until_answered(sock, piece, 20_000_000)
        answer = read_answer(stream)
        assert answer.status == 413
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["connection"] == "close"

    assert running.hit().status == 202


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", 400),
        (head(b"Content-Length: -5\r\n\r\n"), 400),
        (head(b"Content-Length: 5x\r\n\r\n"), 400),
        (head(b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456"), 400),
        (head(b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n"), 400),
        (b"GET /" + b"x" * 5_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 16_400 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET /" + b"x" * 100_000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, 431),
        (head(CHUNKED) + b"no size\r\n\r\n", 400),
        (head(b"Expect: a-miracle\r\nContent-Length: 5\r\n\r\n"), 417),
    ],
    ids=range(16),
)
def test_invalid_http_is_refused_in_the_form_of_all_errors(data: bytes, status: int, running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(data)

        answer = read_answer(stream)
        assert answer.status == status
        assert answer.json["statusCode"] == status
        assert answer.json["message"]
        assert answer.headers["access-control-allow-origin"] == "*"
        assert stream.read() == b""


def test_four_hundred_slow_clients_delay_no_other_client(running: Running) -> None:
    slow_heads = [running.connect() for _ in range(200)]
    slow_bodies = [running.connect() for _ in range(200)]
    for sock in slow_bodies:
        sock.sendall(head(b"Content-Length: 5000\r\n\r\n"))
    over = threading.Event()

    def drip() -> None:
        for letter in b"POST /api/v1":
            for sock in slow_heads:
                sock.sendall(bytes([letter]))
            for sock in slow_bodies:
                sock.sendall(b" ")
            if over.wait(1.0):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        slowest = 0.0
        for _ in range(12):
            started = time.monotonic()
            assert running.hit().status == 202
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.1)
        assert slowest < 2.0
    finally:
        over.set()
        dripping.join()
        for sock in slow_heads + slow_bodies:
            sock.close()


def test_clients_that_do_not_read_their_responses_delay_no_other_client(running: Running) -> None:
    not_reading = [running.connect() for _ in range(20)]
    for sock in not_reading:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        sock.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n" * 200)

    started = time.monotonic()
    assert running.hit().status == 202
    assert time.monotonic() - started < 2.0
    for sock in not_reading:
        sock.close()
