"""Attack the service, exposed directly, with thousands of connections, and measure what other visitors notice."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import threading
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Running, Upstream, head, hit, read_answer
from traffic_analytics.gunicorn_worker.connection_table import PEER_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

WORKERS = 2
HALF_SENT = 8_400
PATIENCE = 5.0
"""Time after which a browser gives up on a hit, in seconds."""
PROMISED_MB = 150
"""Memory of a worker under attack, in MB, as in docs/operate/performance.md."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Open as many files as the attack needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < HALF_SENT + 1_000:
        pytest.skip("too few open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, HALF_SENT + 1_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Visitors:
    """Send hits one after the other, each on a new connection, within a `with` block."""

    def __init__(self, service: Running) -> None:
        self.times: list[float | None] = []
        self._service = service
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._visit)

    def __enter__(self) -> Visitors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def __str__(self) -> str:
        slowest = max(filter(None, self.times), default=PATIENCE)
        return f"{len(self.times)} hits, {self.lost} lost, slowest {slowest:.2f} s"

    @property
    def lost(self) -> int:
        return self.times.count(None)

    def _visit(self) -> None:
        while not self._over.wait(0.02):
            self.times.append(self._timed_hit())

    def _timed_hit(self) -> float | None:
        """Connect, send the hit a moment later as browsers do, and return how long the response took."""
        started = time.monotonic()
        with contextlib.suppress(OSError, ValueError), self._service.connect("127.0.0.9") as sock:
            sock.settimeout(PATIENCE)
            time.sleep(0.1)
            sock.sendall(hit())
            with sock.makefile("rb") as stream:
                if read_answer(stream).status == 202:
                    return time.monotonic() - started
        return None


def workers(service: Running) -> list[int]:
    pid = service.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_mb(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


class HalfSent:
    """Hold connections that sent a part of a request, from many addresses or from one; reopens them within `more`."""

    def __init__(self, service: Running, part: bytes, sources: list[str]) -> None:
        self._service = service
        self._part = part
        self._sources = itertools.cycle(sources)
        self._sockets: deque[socket.socket] = deque()

    def __enter__(self) -> HalfSent:
        self.open(HALF_SENT)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()

    def open(self, count: int) -> None:
        """Open connections, and close as many of the oldest beyond the number that is held."""
        for address in itertools.islice(self._sources, count):
            with contextlib.suppress(OSError):
                sock = self._service.connect(address)
                self._sockets.append(sock)
                sock.settimeout(0.05)
                sock.sendall(self._part)
            if len(self._sockets) > HALF_SENT:
                self._sockets.popleft().close()


MANY = [f"127.0.{number}.1" for number in range(1, 20)]
PARTS = [b"", b"POST /api/v1", head(b"Content-Length: 500\r\n\r\n{")]


@pytest.mark.parametrize("part", PARTS, ids=["nothing", "head", "body"])
def test_half_sent_requests_push_out_no_visitor(part: bytes, upstream: Upstream, tmp_path: Path) -> None:
    with (
        Running(tmp_path, upstream.url, WEB_CONCURRENCY=str(WORKERS)) as service,
        HalfSent(service, part, MANY) as held,
        Visitors(service) as visitors,
    ):
        until = time.monotonic() + 5.0
        while time.monotonic() < until or len(visitors.times) < 10:
            held.open(10)
    print(visitors)
    assert visitors.lost == 0


def test_one_address_occupies_a_few_connections_only_if_no_proxy_is_trusted(upstream: Upstream, tmp_path: Path) -> None:
    with Running(tmp_path, upstream.url, TRUST_PROXY="false") as service, service.connect("127.0.0.9") as other:
        other.sendall(hit()[:-1])
        with HalfSent(service, b"POST /", ["127.0.0.1"]):
            (worker,) = workers(service)
            assert len(list(Path(f"/proc/{worker}/fd").iterdir())) < PEER_LIMIT + 100
            other.sendall(hit()[-1:])
            assert other.recv(12) == b"HTTP/1.1 202"


def test_half_sent_bodies_occupy_no_more_memory_than_promised(upstream: Upstream, tmp_path: Path) -> None:
    part = head(b"Transfer-Encoding: chunked\r\n\r\n") + b"1d000\r\n" + b" " * 60_000
    with Running(tmp_path, upstream.url, WEB_CONCURRENCY=str(WORKERS)) as service, Visitors(service) as visitors:
        before = [resident_mb(pid) for pid in workers(service)]
        with HalfSent(service, part, MANY):
            memory = [resident_mb(pid) for pid in workers(service)]
    print(f"{before} MB before, {memory} MB; {visitors}")
    assert max(memory) < PROMISED_MB
    assert visitors.lost == 0


def test_clients_that_read_no_responses_delay_no_visitor(upstream: Upstream, tmp_path: Path) -> None:
    requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 140
    with Running(tmp_path, upstream.url, THREADS="16", METRICS="true") as service, ExitStack() as stack:
        attackers = [stack.enter_context(socket.socket()) for _ in range(100)]
        for sock in attackers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 500)  # the server's buffers are small, too
            sock.connect(("127.0.0.1", service.port))
            sock.setblocking(False)
        with Visitors(service) as visitors:
            until = time.monotonic() + 10.0
            while time.monotonic() < until or len(visitors.times) < 10:
                for sock in attackers:
                    with contextlib.suppress(OSError):
                        sock.send(requests)
                time.sleep(0.05)
    print(visitors)
    assert visitors.lost == 0
