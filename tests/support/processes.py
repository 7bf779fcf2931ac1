"""Run gunicorn as a process, and speak HTTP with it byte by byte."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from tests.support.app import FIREFOX, SITE, page_hit

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
COVERAGE = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}  # noqa: TID251
"""Variables with which a process reports its coverage; empty unless coverage runs the tests."""
PATIENCE = 15.0
"""Time until a missing event is a failure, in seconds; ten times what a busy machine needs."""

PORTS = range(10_000, 32_768)
"""Ports below those that Linux gives to outgoing connections."""


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE) -> float:
    """Return the seconds that it took until a condition held; fails after `timeout`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout, f"not in {timeout} s: {condition}"
        time.sleep(0.01)
    return time.monotonic() - started


class QuietHandler(BaseHTTPRequestHandler):
    """Speak HTTP/1.1 and log nothing; a body follows its headers without waiting for the client's acknowledgement."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    """Print no error of a client that leaves."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LocalServer:
    """Serve HTTP on a free port within a `with` block; `path` ends its URL."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], path: str = "") -> None:
        self._server = QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}{path}"
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Upstream(LocalServer):
    """Stand in for Tinybird: accept all events, each request after `delay` seconds."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.events: list[dict[str, Any]] = []
        self.connections = 0
        upstream = self

        class Handler(QuietHandler):
            def setup(self) -> None:
                upstream.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                events = [json.loads(line) for line in body.splitlines()]
                upstream.events += events
                time.sleep(upstream.delay)
                body = b'{"successful_rows":%d,"quarantined_rows":0}' % len(events)
                self.send_response(202)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(Handler, "/v0/events")


def free_port() -> int:
    """Return a port without a server; no connection to another server gets it before the test's server starts."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def gunicorn(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start gunicorn with only these variables; its output goes to `directory`/output."""
    with (directory / "output").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), *arguments, "app:app"],
            cwd=directory,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "HOME": str(directory), **COVERAGE, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(stream: BinaryIO) -> Answer:
    """Read one response, and none of the bytes of the next."""
    version, status, *_ = stream.readline().split(b" ", 2)
    assert version in (b"HTTP/1.1", b"HTTP/1.0")
    headers: dict[str, str] = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        assert name.lower() not in headers, f"{name} twice"
        headers[name.lower()] = value.strip()
    return Answer(int(status), headers, stream.read(int(headers.get("content-length", 0))))


class Running:
    """Run the whole service as in production, within a `with` block."""

    def __init__(self, directory: Path, target: str, *arguments: str, **environment: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.process = gunicorn(
            directory,
            *arguments,
            **{
                "PORT": str(self.port),
                "LISTEN_HOST": "127.0.0.1",
                "PROXY_TARGET": target,
                "TINYBIRD_TRACKER_TOKEN": "test-token",
                "DATA_DIR": str(directory / "data"),
                "WEB_CONCURRENCY": "1",
                "THREADS": "2",
                **environment,
            },
        )
        try:
            wait_until(self.answers)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answers(self) -> bool:
        assert self.process.poll() is None, self.output
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/health").status == 200
        return False

    @property
    def output(self) -> str:
        return (self.directory / "output").read_text()

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE, source_address=(source, 0))

    def get(self, path: str) -> Answer:
        return self.say(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    def hit(self, **payload: Any) -> Answer:
        """Post a hit on a connection of its own."""
        return self.say(hit(b"Connection: close\r\n", **payload))

    def say(self, data: bytes) -> Answer:
        """Send bytes and read one response."""
        with self.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(data)
            return read_answer(stream)

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def send_quietly(sock: socket.socket, data: bytes) -> None:
    """Send, and ignore that the server closes early."""
    with contextlib.suppress(OSError):
        sock.sendall(data)


def head(more: bytes = b"", target: str = "/api/v1/page_hit?name=analytics_events", version: str = "1.1") -> bytes:
    """Format the headers of a hit, up to the blank line."""
    return (
        f"POST {target} HTTP/{version}\r\nHost: x\r\nUser-Agent: {FIREFOX}\r\nx-site-uuid: {SITE}\r\n"
        "Content-Type: application/json\r\n"
    ).encode() + more


def hit(more: bytes = b"", version: str = "1.1", **payload: Any) -> bytes:
    """Format a whole hit as HTTP."""
    body = json.dumps(page_hit(**payload)).encode()
    return head(more, version=version) + b"Content-Length: %d\r\n\r\n" % len(body) + body


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
"""The last headers of a chunked request."""


def length(body: bytes | int) -> bytes:
    """Format the last headers of a request with a body of this length."""
    return b"Content-Length: %d\r\n\r\n" % (body if isinstance(body, int) else len(body))


def chunks(body: bytes, size: int = 100, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n%s\r\n" % trailer
