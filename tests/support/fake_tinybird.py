"""Stand in for Tinybird: accept events, or fail as a network or a server can."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection

_EVENT_ID = re.compile(rb'"event_id":"([^"]+)"')


@dataclass
class Request:
    """Request as it arrived, and whether it was accepted."""

    number: int
    connection: int
    arrived: float
    data_source: str
    headers: dict[str, str]
    lines: list[bytes]
    event_ids: list[str]
    is_batch: bool
    taken: bool = False
    """True if a complete 2xx response was sent."""


@dataclass
class Answer:
    """A response, and how to send it; without `send` it is sent whole and at once."""

    status: int = 202
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    send: Callable[[Conversation, bytes], None] | None = None


class Conversation:
    """Connection for responses with a `send` of their own."""

    def __init__(self, sock: socket.socket, healed: threading.Event) -> None:
        self.sock = sock
        self.healed = healed

    def reset(self) -> None:
        """Close the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionAbortedError


def taken(request: Request) -> Answer:
    """Accept everything."""
    return Answer(body={"successful_rows": len(request.event_ids), "quarantined_rows": 0})


def always(status: int, **headers: str) -> Callable[[Request], Answer]:
    """Answer every request with one status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: Answer(status, named, {"error": f"the fake says {status}"})


def hanging(request: Request) -> Answer:
    """Never respond."""

    def send(conversation: Conversation, answer: bytes) -> None:
        conversation.healed.wait()
        conversation.reset()

    return Answer(send=send)


def reset_in_mid_answer(request: Request) -> Answer:
    """Reset the connection within the response's body."""

    def send(conversation: Conversation, answer: bytes) -> None:
        conversation.sock.sendall(answer[:-10])
        conversation.reset()

    return Answer(body={"successful_rows": len(request.event_ids)}, send=send)


def dripping(request: Request) -> Answer:
    """Send the body one byte at a time, so that no single read times out."""
    return Answer(body={"successful_rows": len(request.event_ids), "padding": "x" * 500}, send=_drip_after(b"\r\n\r\n"))


def dripping_headers(request: Request) -> Answer:
    """Send the headers one byte at a time."""
    return Answer(headers={"X-Padding": "x" * 500}, body={}, send=_drip_after(b"HTTP"))


def _drip_after(mark: bytes) -> Callable[[Conversation, bytes], None]:
    def send(conversation: Conversation, answer: bytes) -> None:
        start = answer.index(mark) + len(mark)
        conversation.sock.sendall(answer[:start])
        for byte in answer[start:]:
            if conversation.healed.wait(0.2):
                conversation.reset()
            conversation.sock.sendall(bytes([byte]))

    return send


class FakeTinybird:
    """A server on a port of its own; `behave` answers its requests, and a test can change it at any time."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.behave: Callable[[Request], Answer] = taken
        self.requests: list[Request] = []
        self._tls = tls
        self._healed = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._delivered: Counter[str] = Counter()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._connections = 0
        self._listener: socket.socket | None = None
        self.port = 0
        self.listen()

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def delivered(self) -> Counter[str]:
        """The number of times that each event was accepted, by event_id."""
        with self._lock:
            return self._delivered.copy()

    def fail(self, behave: Callable[[Request], Answer]) -> None:
        """Answer all requests with `behave` from now on."""
        self._healed.clear()
        self.behave = behave

    def heal(self) -> None:
        """Accept everything from now on; reset the connections that hang."""
        self.behave = taken
        self._healed.set()
        if self._listener is None:
            self.listen()

    def listen(self) -> None:
        """Accept connections, always on the same port."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._start(self._accept, listener)

    def refuse(self) -> None:
        """Refuse connections, and close the open ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._healed.set()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._threads.clear()
        self._healed.clear()

    def wait_for(self, event_ids: Collection[str], timeout: float) -> None:
        """Return once all these events are accepted; fails after `timeout` seconds."""
        self.wait_until(lambda: all(map(self._delivered.__contains__, event_ids)), timeout)

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Return once a condition holds that depends on requests; fails after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise AssertionError(f"not in {timeout} s; {len(self._delivered)} events were accepted so far")

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self._connections += 1
            self._start(self._serve, sock, self._connections)

    def _serve(self, sock: socket.socket, connection: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            stack.enter_context(contextlib.suppress(OSError))
            if self._tls:
                sock = stack.enter_context(self._tls.wrap_socket(sock, server_side=True))
            with self._lock:
                self._sockets.add(sock)
            stack.callback(self._forget, sock)
            conversation = Conversation(sock, self._healed)
            stream = stack.enter_context(sock.makefile("rb"))
            while request := self._read(stream, connection):
                self._answer(conversation, request)

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(sock)

    def _read(self, stream: Any, connection: int) -> Request | None:
        start = stream.readline()
        if not start:
            return None
        headers = {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", "0")))
        if len(body) < int(headers.get("content-length", "0")):
            return None
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        query = parse_qs(urlsplit(start.split()[1].decode()).query)
        request = Request(
            number=0,
            connection=connection,
            arrived=time.monotonic(),
            data_source=query.get("name", [""])[0],
            headers=headers,
            lines=body.split(b"\n"),
            event_ids=[name.decode() for name in _EVENT_ID.findall(body)],
            is_batch=headers.get("content-type") == "application/x-ndjson",
        )
        with self._lock:
            request.number = len(self.requests)
            self.requests.append(request)
        return request

    def _answer(self, conversation: Conversation, request: Request) -> None:
        answer = self.behave(request)
        body = json.dumps(answer.body).encode() if answer.body is not None else b""
        head = [f"HTTP/1.1 {answer.status} Whatever", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        whole = ("\r\n".join(head) + "\r\n\r\n").encode() + body
        if answer.send is not None:
            answer.send(conversation, whole)
            return
        with self._changed:
            if 200 <= answer.status < 300:
                request.taken = True
                self._delivered.update(request.event_ids)
            self._changed.notify_all()
        conversation.sock.sendall(whole)
