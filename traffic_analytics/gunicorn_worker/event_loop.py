"""Accept, read, write and close all connections of a worker, without waiting for one.

    accepted ──bytes──▶ reading ──complete──▶ busy in a thread ──response sent──▶ idle ──bytes──▶ reading …
                           │ 10 s                 │ close   │ unsent rest           │ keepalive
                           ▼                      ▼         ▼                       ▼
                         closed     draining (2 s, 1 MiB)   writing (10 s)        closed

- The loop owns the sockets; a thread owns a request. `serving_threads.py` gets all requests of a turn together.
- No socket blocks. A thread leaves to the loop what a client does not accept at once, and no further request of that
  client is served until it is sent.
- Each stage has a deadline, so every connection expires; `connection_table.py` bounds connections and bytes.
- A body longer than a hit's is read within `body_limits`; otherwise the request reaches the application without it.
- A socket stays registered with the selector for its whole life, which saves two system calls per request.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from traffic_analytics.gunicorn_worker.acceptor import ACCEPT_PAUSE, Acceptor
from traffic_analytics.gunicorn_worker.connection import Connection
from traffic_analytics.gunicorn_worker.connection_table import USUAL_REQUEST, ConnectionTable
from traffic_analytics.gunicorn_worker.request_framing import Progress, RequestFraming
from traffic_analytics.gunicorn_worker.serving_threads import BLOCKED_AFTER

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Sequence

    from traffic_analytics.gunicorn_worker.body_limits import BodyLimits
    from traffic_analytics.gunicorn_worker.request_head import Head
    from traffic_analytics.gunicorn_worker.serving_threads import ServingThreads

READ_DEADLINE = 10.0
"""Time from a request's first byte to its last, in seconds; large bodies have their own. Browsers give up after 5."""
DRAIN_DEADLINE = 2.0
"""Time for which a closed connection is still read, in seconds; a reset would lose the response."""
DRAIN_LIMIT = 1_048_576
"""Data that is read from a closed connection, in bytes."""
WRITE_DEADLINE = 10.0
"""Time for a client to accept the rest of a response that its socket's buffer does not hold, in seconds."""
RECV_SIZE = 65_536
"""Data read from a socket at a time, in bytes."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class EventLoop:
    """The connections of one worker; adds those whose request is complete to `threads`."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        max_connections: int,
        keepalive: float,
        log: logging.Logger,
        parse: Callable[[bytes], Head],
        threads: ServingThreads[Connection],
    ) -> None:
        self.body_limits: BodyLimits | None = None
        self.lock = threading.Lock()  # guards the table and every connection's state
        self.table = ConnectionTable()
        self._parse = parse
        self._threads = threads
        self._complete: list[Connection] = []  # their requests became complete in this turn
        self._max_connections = max_connections
        self._keepalive = keepalive
        self._finished: queue.SimpleQueue[tuple[Connection, bool]] = queue.SimpleQueue()
        self._wakeup_reader, self._wakeup_writer = os.pipe()
        for fd in (self._wakeup_reader, self._wakeup_writer):
            os.set_blocking(fd, False)
        self._selector = selectors.DefaultSelector()
        self._acceptor = Acceptor(listeners, self._selector, log, self._add, self._make_room)
        self._selector.register(self._wakeup_reader, selectors.EVENT_READ, self._resume_finished)

    def turn(self) -> None:
        """Handle what has happened, or wait for it for up to a second."""
        now = time.monotonic()
        self._close_all(self.table.expired(now))
        self._acceptor.enable(len(self.table.all) < self._max_connections, now)
        self._handle_events(timeout=1.0 if self._acceptor.is_enabled else ACCEPT_PAUSE)

    def turn_while_stopping(self, *, close_idle: bool) -> None:
        """Handle what has happened on the open connections, or wait for it for a moment."""
        self._close_all(self.table.expired(time.monotonic()))
        if close_idle:
            self._close_all(list(self.table.idle))
        self._handle_events(timeout=0.2)

    def stop_accepting(self) -> None:
        """Close the listeners."""
        self._acceptor.close()

    def wake(self) -> None:
        """Wake the loop; called in threads and signal handlers."""
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes it as well
            os.write(self._wakeup_writer, b"\0")

    # -- called in threads

    def take_request(self, connection: Connection) -> tuple[Head, bytes]:
        """Return the head of a complete request, and its body with what the client sent after it."""
        request, connection.request = connection.request, None
        assert request is not None  # noqa: S101 - complete, and so parsed
        assert request.head is not None  # noqa: S101
        with self.lock:
            del connection.buffer[: request.body]
            data = bytes(connection.buffer)
            connection.buffer.clear()
            if connection.counted:
                self.table.count(connection)
        return request.head, data

    def respond(self, connection: Connection, response: bytes, pipelined: bytes) -> None:
        """Send what fits of a response, and leave the rest and further requests to the loop."""
        try:
            sent = connection.sock.send(response)
        except BlockingIOError:
            sent = 0
        if pipelined or sent < len(response):
            with self.lock:
                connection.buffer[:0] = pipelined
                self.table.count(connection)
                self.table.hold_response(connection, response[sent:])

    def finish(self, connection: Connection, *, keep: bool) -> None:
        """Keep a connection alive, or return it to the loop.

        A returned connection stays busy until the loop resumes it; otherwise pipelined data would be served twice.
        """
        with self.lock:
            self.table.holding_large.discard(connection)
            if keep and not connection.paused and not connection.buffer and not connection.unsent:
                connection.busy = False
                self._keep_alive(connection)
                return
            self.table.count(connection)
        self._finished.put((connection, keep))
        self.wake()

    def _handle_events(self, timeout: float) -> None:
        for key, _ in self._selector.select(BLOCKED_AFTER if self._threads.check() else timeout):
            key.data()
        if self._complete:
            self._threads.add(self._complete)
            self._complete.clear()

    def _add(self, sock: socket.socket, address: Any) -> None:
        """Hold a new connection, and make room for the next."""
        connection = Connection(sock, address, self._parse, self.table.peer(address))
        with self.lock:
            self.table.add(connection)
            self._keep_alive(connection)
            self._watch(connection)
            if sibling := self.table.one_too_many_of_its_peer(connection):
                self._close(sibling)
        if len(self.table.all) >= self._max_connections:
            self._make_room()

    def _make_room(self) -> bool:
        """Close the connection that matters least; returns False if all are busy."""
        with self.lock:
            oldest = self.table.oldest()
            if oldest is not None:
                self._close(oldest)
        return oldest is not None

    # -- reading; the methods below require the lock, but for callbacks of the selector

    def _watch(self, connection: Connection) -> None:
        """Register a connection for reading."""
        connection.paused = False
        self._selector.register(connection.sock, selectors.EVENT_READ, partial(self._read, connection))

    def _pause(self, connection: Connection) -> None:
        """Leave further data in the kernel until the response is sent."""
        connection.paused = True
        self._selector.unregister(connection.sock)

    def _read(self, connection: Connection) -> None:
        """Read what has arrived; called by the selector."""
        if connection.busy:
            with self.lock:
                if connection.paused:
                    return
                if connection.busy and connection.buffer:
                    self._pause(connection)
                    return
        try:
            data = connection.sock.recv(RECV_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self.lock:
            if connection.stage is self.table.draining:
                connection.drained += len(data)
                if not data:
                    self._close(connection)
                elif connection.drained > DRAIN_LIMIT:
                    self._pause(connection)  # the client can still read the response, until the deadline
            elif not data and connection.busy:
                self._pause(connection)  # the response comes first; the end is read again after it
            elif not data:
                self._close(connection)
            else:
                connection.buffer += data
                if len(connection.buffer) > USUAL_REQUEST:
                    self.table.count(connection)
                    self._close_each(self.table.too_many_bytes())
                if connection.stage is not None:
                    self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        """Queue a connection whose request is complete or will not be read to its end."""
        progress = connection.framing.progress(connection.buffer)
        if progress is Progress.TOO_LONG:
            progress = self._admit_large_body(connection)
        if progress is Progress.COMPLETE or progress is Progress.TOO_LONG:
            connection.is_cut = progress is Progress.TOO_LONG
            connection.continue_sent = False
            connection.request = connection.framing
            connection.framing = RequestFraming(self._parse)
            connection.busy = True
            self.table.enter(None, connection)
            if connection.counted:
                self.table.count(connection)
            self._complete.append(connection)
            return
        if connection.stage is not self.table.reading and connection.stage is not self.table.reading_large:
            self.table.enter(self.table.reading, connection, time.monotonic() + READ_DEADLINE)
            self.table.count(connection)
        if progress is Progress.EXPECTS_CONTINUE and not connection.continue_sent:
            connection.continue_sent = True
            self._send_continue(connection)

    def _send_continue(self, connection: Connection) -> None:
        """Send a `100 Continue`, or close the connection of a client that has read no responses for long."""
        try:
            sent = connection.sock.send(CONTINUE)
        except OSError:
            sent = 0
        if sent < len(CONTINUE):
            self._close(connection)

    def _admit_large_body(self, connection: Connection) -> Progress:
        """Read a large body if its sender may send one and there is room; otherwise return TOO_LONG."""
        limits, holding = self.body_limits, self.table.holding_large
        if limits is None or connection in holding or len(holding) >= limits.max_bodies:
            return Progress.TOO_LONG
        if not limits.accepts(bytes(connection.buffer[: connection.framing.body])):
            return Progress.TOO_LONG
        connection.framing.raise_body_limit(limits.max_bytes)
        progress = connection.framing.progress(connection.buffer)
        if progress is Progress.TOO_LONG:
            return progress
        holding.add(connection)
        self.table.enter(self.table.reading_large, connection, time.monotonic() + limits.deadline)
        self.table.count(connection)
        return progress

    # -- writing and closing

    def _resume_finished(self) -> None:
        """Resume the connections that threads returned to the loop."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup_reader, RECV_SIZE)
        with contextlib.suppress(queue.Empty):
            while True:
                connection, keep = self._finished.get_nowait()
                with self.lock:
                    self._resume(connection, keep)

    def _resume(self, connection: Connection, keep: bool) -> None:
        """Send the rest of the response, or else serve a pipelined request, keep the connection alive, or close it."""
        if connection.unsent:
            connection.keep = keep
            self._start_writing(connection)
            return
        connection.busy = False
        if connection.paused:
            self._watch(connection)
        if not keep:
            self._drain(connection)
        elif connection.buffer:
            self._advance(connection)
        else:
            self._keep_alive(connection)

    def _keep_alive(self, connection: Connection) -> None:
        self.table.enter(self.table.idle, connection, time.monotonic() + self._keepalive)

    def _start_writing(self, connection: Connection) -> None:
        if not connection.paused:
            self._pause(connection)
        self._selector.register(connection.sock, selectors.EVENT_WRITE, partial(self._write, connection))
        self.table.enter(self.table.writing, connection, time.monotonic() + WRITE_DEADLINE)
        self._close_each(self.table.too_many_bytes())

    def _write(self, connection: Connection) -> None:
        """Send what fits of the rest of a response; called by the selector."""
        try:
            connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._close_all([connection])
            return
        if not connection.unsent:
            with self.lock:
                self.table.release_response(connection)
                self.table.enter(None, connection)
                self._selector.unregister(connection.sock)
                self._resume(connection, connection.keep)

    def _drain(self, connection: Connection) -> None:
        """Shut down the sending side and read on until the client closes, up to a limit.

        If unread data were left, the kernel would reset the connection and the client could lose the response.
        """
        connection.buffer.clear()
        self.table.count(connection)
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        self.table.enter(self.table.draining, connection, time.monotonic() + DRAIN_DEADLINE)

    def _close(self, connection: Connection) -> None:
        """Close and forget a connection; an event of a closed one may still follow."""
        if connection not in self.table.all:
            return
        self.table.remove(connection)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(connection.sock)
        connection.sock.close()

    def _close_each(self, connections: Iterable[Connection]) -> None:
        for connection in connections:
            self._close(connection)

    def _close_all(self, connections: Iterable[Connection]) -> None:
        with self.lock:
            self._close_each(connections)
