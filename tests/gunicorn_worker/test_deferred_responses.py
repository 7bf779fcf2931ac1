"""Test responses that are not ready at once, and requests that arrive together, under the real worker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import read_answer, wait_until
from tests.support.worker_app import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.processes import Running

THREADS = 3
CLIENTS = 20
APP = """
import json, threading

waiting, batches, held, released, closed = [], [], [], threading.Event(), []
lock = threading.Lock()
meeting = threading.Barrier(THREADS, timeout=10)

class Deferred:
    def __init__(self, path, query, start_response):
        self.path, self.body, self.start_response = path, query.encode(), start_response
        self.callback, self.is_ready = None, False

    def on_ready(self, callback):
        if self.path == "/refuses":
            raise ValueError("private-reason")
        if self.path == "/twice":
            callback()
        if self.path in ("/thread", "/slowly"):
            threading.Timer(2.0 if self.path == "/slowly" else 0.05, callback).start()
        elif self.path == "/meet":
            meeting.wait()
            callback()
        elif self.path == "/held":
            held.append(callback)
        elif self.path == "/together":
            self.callback = callback
            if self.is_ready:
                return callback()
            with lock:
                batch = waiting[:]
                waiting.clear()
            batches.append(len(batch))
            for each in batch:
                each.is_ready = True
                if each.callback is not None:
                    each.callback()
        else:
            callback()

    def __iter__(self):
        self.start_response("200 OK", [("content-type", "text/plain")])
        if self.path == "/breaks":
            raise ValueError("private-reason")
        if self.path == "/exits":
            raise SystemExit("private-reason")
        yield self.body

    def close(self):
        closed.append(self.path)

def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/block":
        held.append(released.set)
        released.wait(30)
    if path == "/release":
        for callback in held:
            callback()
        held.clear()
    if path == "/pause":
        threading.Event().wait(0.5)
        start_response("200 OK", [("content-type", "text/plain")])
        return [b"paused"]
    if path in ("/health", "/state", "/release", "/block"):
        start_response("200 OK", [("content-type", "text/plain")])
        return [json.dumps({"batches": batches, "held": len(held), "closed": len(closed)}).encode()]
    deferred = Deferred(path, query, start_response)
    if path == "/together":
        waiting.append(deferred)
    return deferred
""".replace("THREADS", str(THREADS))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serve(tmp_path, APP, THREADS) as service:
        yield service


def get(target: str, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def state(service: Running) -> dict[str, object]:
    return dict(service.get("/state").json)


def has_held(service: Running, count: int) -> None:
    wait_until(lambda: state(service)["held"] == count)


def has_failed(service: Running) -> bool:
    return "UnhandledError" in service.output


@contextlib.contextmanager
def stopped_worker(service: Running) -> Iterator[None]:
    """Stop the worker's process within the block, so that what is sent meanwhile is there together."""
    pid = service.process.pid
    (worker,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def connect(service: Running, stack: contextlib.ExitStack, count: int) -> list[socket.socket]:
    """Connect clients, each of which has had a response."""
    clients = [stack.enter_context(service.connect()) for _ in range(count)]
    for sock in clients:
        sock.sendall(get("/health"))
        with sock.makefile("rb") as stream:
            assert read_answer(stream).status == 200
    return clients


def bodies(clients: list[socket.socket]) -> list[bytes]:
    answers = []
    for sock in clients:
        with sock.makefile("rb") as stream:
            answers.append(read_answer(stream).body)
    return answers


def test_requests_that_are_there_together_are_all_called_before_the_first_response_is_waited_for(
    running: Running,
) -> None:
    expected = [b"%d" % number for number in range(CLIENTS)]
    with contextlib.ExitStack() as stack:
        clients = connect(running, stack, CLIENTS)

        def is_one_batch() -> bool:
            with stopped_worker(running):
                for number, sock in enumerate(clients):
                    sock.sendall(get(f"/together?{number}"))
            assert bodies(clients) == expected
            batches = state(running)["batches"]
            assert isinstance(batches, list)
            return bool(batches[-1] == CLIENTS)

        wait_until(is_one_batch)  # a thread without CPU time for some milliseconds is helped by another


def test_each_client_gets_its_own_response(running: Running) -> None:
    with contextlib.ExitStack() as stack:
        clients = connect(running, stack, CLIENTS)
        for path in ("/held", "/thread", "/ready"):
            for number, sock in enumerate(clients):
                sock.sendall(get(f"{path}?{path}-{number}"))
            if path == "/held":
                has_held(running, CLIENTS)
                running.get("/release")
            assert bodies(clients) == [f"{path}-{number}".encode() for number in range(CLIENTS)]
        assert state(running)["closed"] == 3 * CLIENTS


@pytest.mark.parametrize("path", ["/thread", "/ready", "/twice"])
def test_deferred_responses_of_one_connection_come_in_order(path: str, running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(b"".join(get(f"{path}?{number}") for number in range(5)) + get(f"{path}?head", method="HEAD"))

        assert [read_answer(stream).body for _ in range(5)] == [b"%d" % number for number in range(5)]
        sock.shutdown(socket.SHUT_WR)
        headers, _, body = stream.read().partition(b"\r\n\r\n")
        assert b"Content-Length: 4" in headers
        assert body == b""


def test_a_client_that_leaves_before_its_response_is_ready_harms_no_other(running: Running) -> None:
    with contextlib.ExitStack() as stack:
        leaving, staying = connect(running, stack, 2)
        for sock in (leaving, staying):
            sock.sendall(get("/held?held"))
        has_held(running, 2)
        leaving.close()

        assert running.get("/release").status == 200
        assert bodies([staying]) == [b"held"]
        wait_until(lambda: state(running)["closed"] == 2)
        assert not has_failed(running)


@pytest.mark.parametrize("path", ["/breaks", "/refuses"])
def test_a_response_that_fails_is_answered_500_and_harms_no_other(path: str, running: Running) -> None:
    with contextlib.ExitStack() as stack:
        clients = connect(running, stack, 2 * THREADS)
        with stopped_worker(running):
            for sock in clients[::2]:
                sock.sendall(get(path))
            for sock in clients[1::2]:
                sock.sendall(get("/thread?well"))

        assert bodies(clients[1::2]) == [b"well"] * THREADS
        for sock in clients[::2]:
            with sock.makefile("rb") as stream:
                answer = read_answer(stream)
                assert (answer.status, answer.json["statusCode"], answer.headers["connection"]) == (500, 500, "close")
        assert has_failed(running)
        assert "private-reason" not in running.output


def test_an_exit_in_a_response_closes_its_connection_only(running: Running) -> None:
    for _ in range(THREADS + 1):  # one more than there are threads to lose
        with running.connect() as sock:
            sock.sendall(get("/exits"))
            assert sock.recv(100) == b""

    assert running.get("/thread?x").body == b"x"
    assert has_failed(running)


def test_a_stopping_worker_sends_the_responses_that_are_not_ready_yet(running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(get("/slowly?x"))
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)

        answer = read_answer(stream)
        assert (answer.body, answer.headers["connection"]) == (b"x", "close")
    assert running.stop() == 0


def test_a_request_that_blocks_holds_no_other_that_came_with_it_or_later(running: Running) -> None:
    with contextlib.ExitStack() as stack:
        blocked, *clients = connect(running, stack, 10)
        with stopped_worker(running):
            for sock in (blocked, *clients):
                sock.sendall(get("/block" if sock is blocked else "/ready?with"))

        assert bodies(clients) == [b"with"] * 9
        for sock in clients:
            sock.sendall(get("/together?later"))
            assert bodies([sock]) == [b"later"]
        assert state(running)["held"] == 1  # it still blocks
        running.get("/release")
        assert bodies([blocked])


def test_a_response_that_blocks_before_it_is_ready_holds_no_other_that_came_with_it(running: Running) -> None:
    with contextlib.ExitStack() as stack:
        clients = connect(running, stack, THREADS)
        with stopped_worker(running):
            for sock in clients:
                sock.sendall(get("/meet?met"))

        assert bodies(clients) == [b"met"] * THREADS


def test_requests_that_wait_while_all_threads_block_are_served_as_soon_as_one_is_free(running: Running) -> None:
    with contextlib.ExitStack() as stack:
        clients = connect(running, stack, THREADS + 10)
        blocking, waiting = clients[:THREADS], clients[THREADS:]
        for sock in blocking:
            sock.sendall(get("/pause"))
        for sock in waiting:
            sock.sendall(get("/ready?x"))

        assert bodies(waiting) == [b"x"] * 10
        assert bodies(blocking) == [b"paused"] * THREADS
