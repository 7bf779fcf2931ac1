"""Test large bodies: which are read, how many at a time and for how long."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import (
    CHUNKED,
    Running,
    chunks,
    head,
    length,
    read_answer,
    send_quietly,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES, MAX_BODIES, DEADLINE = 1_000_000, 2, 1.5
APP = """
import hashlib, json

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = {"length": len(body), "sum": hashlib.sha256(body).hexdigest(), "unread": environ["traffic_analytics.unread"]}
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps(seen).encode()]
"""
CONF = f"""
import os
from traffic_analytics.gunicorn_worker.body_limits import BodyLimits

bind = f"127.0.0.1:{{os.environ['PORT']}}"
worker_class = "traffic_analytics.gunicorn_worker.buffering_worker.BufferingWorker"
threads = 2

def post_worker_init(worker):
    worker.body_limits = BodyLimits(lambda head: b"X-Large: yes" in head, {MAX_BYTES}, {MAX_BODIES}, {DEADLINE})
"""
LARGE = b"X-Large: yes\r\n"


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run the worker with an application that returns the length and the hash of the body."""
    directory: Path = tmp_path_factory.mktemp("echo")
    (directory / "app.py").write_text(APP)
    (directory / "gunicorn.conf.py").write_text(CONF)
    with Running(directory, "", "-c", "gunicorn.conf.py") as service:
        yield service


def whole(body: bytes) -> dict[str, Any]:
    return {"length": len(body), "sum": hashlib.sha256(body).hexdigest(), "unread": False}


@pytest.mark.parametrize("size", [65_536, 65_537, MAX_BYTES])
@pytest.mark.parametrize("framing", ["length", "chunked", "chunked small"])
def test_an_accepted_large_body_arrives_whole_and_the_connection_stays_usable(
    size: int, framing: str, echo: Running
) -> None:
    body = bytes(range(251)) * (size // 251) + b"x" * (size % 251)
    framed = length(body) + body
    if framing != "length":
        framed = CHUNKED + chunks(body, 65_536 if framing == "chunked" else 1500)
    with echo.connect() as sock, sock.makefile("rb") as stream:
        for _ in range(2):
            sock.sendall(head(LARGE) + framed)
            assert read_answer(stream).json == whole(body)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(stream).json["length"] == 0


def test_a_body_that_comes_in_pieces_arrives_whole(echo: Running) -> None:
    body = b"0123456789" * 10_000
    with echo.connect() as sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        everything = head(LARGE) + length(body) + body
        for at in range(0, len(everything), 97):
            sock.sendall(everything[at : at + 97])
        assert read_answer(stream).json == whole(body)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_expects_100_continue_receives_it_for_an_accepted_large_body(framing: str, echo: Running) -> None:
    body = b"x" * 500_000
    with echo.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(head(LARGE + b"Expect: 100-continue\r\n") + (length(body) if framing == "length" else CHUNKED))
        assert read_answer(stream).status == 100

        sock.sendall(body if framing == "length" else chunks(body, 10_000))
        assert read_answer(stream).json == whole(body)


@pytest.mark.parametrize(
    "request_head",
    [
        head(length(100_000)),
        head(b"Expect: 100-continue\r\n" + length(100_000)),
        head(LARGE + length(MAX_BYTES + 1)),
        head(LARGE + b"Expect: 100-continue\r\n" + length(MAX_BYTES + 1)),
    ],
    ids=["not accepted", "not accepted, expects", "too long", "too long, expects"],
)
def test_any_other_large_body_is_passed_on_unread_at_once(request_head: bytes, echo: Running) -> None:
    answer = echo.say(request_head)

    assert (answer.status, answer.json["length"], answer.json["unread"]) == (200, 0, True)
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(("more", "limit"), [(b"", 65_536), (LARGE, MAX_BYTES)], ids=["not accepted", "accepted"])
def test_a_chunked_body_is_read_up_to_the_limit_of_its_sender(more: bytes, limit: int, echo: Running) -> None:
    with echo.connect() as sock, sock.makefile("rb") as stream:
        threading.Thread(
            target=send_quietly, args=[sock, head(more + CHUNKED) + chunks(b"x" * 3_000_000, 5000)]
        ).start()

        seen = read_answer(stream).json
        assert seen["unread"]
        assert limit < seen["length"] < limit + 300_000


@pytest.mark.parametrize("endless", [b"5;" + b"x" * 200_000, b"0\r\n" + b"X: y\r\n" * 40_000], ids=["size", "trailer"])
def test_framing_without_an_end_is_refused_instead_of_searched_again_and_again(endless: bytes, echo: Running) -> None:
    with echo.connect() as sock, sock.makefile("rb") as stream:
        threading.Thread(target=send_quietly, args=[sock, head(LARGE + CHUNKED) + endless]).start()

        assert read_answer(stream).status in (400, 431)


def test_only_a_few_large_bodies_are_held_at_a_time(echo: Running) -> None:
    body = b"x" * 200_000
    started = head(LARGE) + length(body) + body[:-1]
    with echo.connect() as first, first.makefile("rb") as answers, echo.connect() as second:
        for sock in (first, second):
            sock.sendall(started)
        wait_until(lambda: echo.say(started).json["unread"], DEADLINE)
        assert echo.say(head(length(b"small")) + b"small").json == whole(b"small")

        first.sendall(b"x")
        assert read_answer(answers).json == whole(body)
        wait_until(
            lambda: echo.say(started + b"x").json == whole(body), DEADLINE
        )  # the place of the first is free a moment later
        second.close()
        wait_until(lambda: not is_full_with_two(echo, started, body), DEADLINE)


def is_full_with_two(echo: Running, started: bytes, body: bytes) -> bool:
    """Return whether a second body is one too many."""
    with echo.connect() as sock:
        sock.sendall(started)
        return bool(echo.say(head(LARGE) + length(body) + body).json["unread"])


def test_a_large_body_has_a_deadline_of_its_own(echo: Running) -> None:
    started = time.monotonic()
    with echo.connect() as sock, echo.connect() as other:
        other.sendall(head(length(1000)) + b"x")
        sock.sendall(head(LARGE) + length(200_000) + b"x" * 100_000)
        assert sock.recv(1) == b""
        assert DEADLINE - 0.1 < time.monotonic() - started < DEADLINE + 3
        other.sendall(b"x" * 999)
        assert other.recv(12) == b"HTTP/1.1 200"

    body = b"x" * 200_000
    assert echo.say(head(LARGE) + length(body) + body).json == whole(body)
