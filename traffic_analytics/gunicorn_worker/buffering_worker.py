"""Read whole requests in one event loop and serve them in threads.

gunicorn's threaded worker waits in a thread for the rest of a request, so a few clients that send one byte a second
occupy every thread. Here the loop reads all connections without waiting for one, and a thread gets complete requests.

    accepted ──bytes──▶ reading ──complete──▶ busy in a thread ──response sent──▶ idle ──bytes──▶ reading …
                           │ 10 s                   │ close                         │ keepalive
                           ▼                        ▼                               ▼
                         closed              draining (2 s), closed               closed

- Only the loop reads, opens and closes sockets; a thread parses from memory and writes the response in one piece.
- A connection is busy or in exactly one stage, and each stage has a deadline, so every connection expires.
- A body longer than a hit's is read within `body_limits`; otherwise the request reaches the application without it.
- A socket stays registered with the selector for its whole life, which saves two system calls per request.

Not supported: TLS and HTTP/2 (left to a proxy), access logs (they hold addresses), streamed responses.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import selectors
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn.workers.base import Worker

from traffic_analytics.gunicorn_worker.exchange import Exchange, copy_config
from traffic_analytics.gunicorn_worker.request_framing import Progress, RequestFraming

if TYPE_CHECKING:
    from types import FrameType

    from traffic_analytics.gunicorn_worker.body_limits import BodyLimits

READ_DEADLINE = 10.0
"""Time from a request's first byte to its last, in seconds; large bodies have their own. Browsers give up after 5."""
DRAIN_DEADLINE = 2.0
"""Time for which a closed connection is still read, in seconds; a reset would lose the response."""
IDLE_AFTER_STOP = 2.0
"""Time for which a stopping worker keeps idle connections, in seconds; a request may be on its way."""
WRITE_TIMEOUT = 5.0
"""Time for which a thread waits for a client to accept its response, in seconds."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""Signals that stop a worker; blocked from the fork until the worker has its own handlers."""
RECV_SIZE = 65_536
"""Data read from a socket at a time, in bytes."""


class Connection:
    """One client connection and the bytes that it sent and that are not served yet."""

    __slots__ = (
        "address",
        "buffer",
        "busy",
        "continue_sent",
        "deadline",
        "draining",
        "eof",
        "framing",
        "paused",
        "sock",
    )

    def __init__(self, sock: socket.socket, address: Any) -> None:
        self.sock = sock
        self.address = address
        self.buffer = bytearray()
        self.framing = RequestFraming()
        self.busy = False
        self.eof = False
        self.paused = False
        self.draining = False
        self.continue_sent = False
        self.deadline = 0.0


class BufferingWorker(Worker):  # type: ignore[misc] # gunicorn is not typed
    """gunicorn worker with one event loop that reads and threads that serve."""

    body_limits: BodyLimits | None = None
    """Limits for large bodies; set by gunicorn.conf.py once the application is loaded."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ARG003 - gunicorn's signature
        """Refuse settings that this worker does not support."""
        if cfg.is_ssl:
            raise RuntimeError("BufferingWorker does not speak TLS: put a proxy in front, or use the gthread worker")

    def init_process(self) -> None:
        """Prepare in the worker's process, then run."""
        self.lock = threading.Lock()  # guards every connection's state, and the collections below
        self.connections: set[Connection] = set()
        # The stages. Each is ordered by deadline, since its connections all have equally long ones.
        self.idle: dict[Connection, None] = {}
        self.reading: dict[Connection, None] = {}
        self.reading_large: dict[Connection, None] = {}
        self.draining: dict[Connection, None] = {}
        self.stages = (self.idle, self.reading, self.reading_large, self.draining)
        self.holding_large: set[Connection] = set()  # connections with a large body in memory
        self.jobs: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self.finished: queue.SimpleQueue[tuple[Connection, bool]] = queue.SimpleQueue()
        self.wakeup_reader, self.wakeup_writer = os.pipe()
        for fd in (self.wakeup_reader, self.wakeup_writer):
            os.set_blocking(fd, False)
        self.selector = selectors.DefaultSelector()
        self.is_accepting = False
        self.config_copy = copy_config(self.cfg)
        self.server = self.sockets[0].getsockname()
        super().init_process()

    def init_signals(self) -> None:
        """Handle signals from now on, including those that arrived while the process started."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully, without waiting for the loop's next second."""
        super().handle_exit(sig, frame)
        self.wake()

    def run(self) -> None:
        """Serve until stopped, then finish the requests that have started."""
        self.selector.register(self.wakeup_reader, selectors.EVENT_READ, self.resume_finished)
        threads = [
            threading.Thread(target=self.run_thread, name=f"hits-{n}", daemon=True) for n in range(self.cfg.threads)
        ]
        for thread in threads:
            thread.start()
        while self.alive:
            self.notify()
            self.accept_connections(len(self.connections) < self.cfg.worker_connections)
            self.handle_events(timeout=1.0)
            if self.ppid != os.getppid():
                self.log.info("Parent changed, shutting down: %s", self)
                break
            self.expire(time.monotonic())
        self.accept_connections(False)
        for listener in self.sockets:
            listener.close()
        stop_by = time.monotonic() + self.cfg.graceful_timeout
        close_idle_at = time.monotonic() + IDLE_AFTER_STOP
        while self.connections and time.monotonic() < stop_by:
            self.notify()
            if time.monotonic() >= close_idle_at:
                self.close_idle()
            self.handle_events(timeout=0.2)
            self.expire(time.monotonic())
        for _ in threads:
            self.jobs.put(None)
        for thread in threads:
            thread.join(1.0)

    # -- the loop: accepting, reading and closing

    def handle_events(self, timeout: float) -> None:
        """Wait for events and run their callbacks."""
        for key, _ in self.selector.select(timeout):
            key.data()

    def wake(self) -> None:
        """Wake the loop; called in threads and signal handlers."""
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes it as well
            os.write(self.wakeup_writer, b"\0")

    def accept_connections(self, enabled: bool) -> None:
        """Start or stop accepting; new clients wait in the kernel's backlog meanwhile."""
        if enabled == self.is_accepting:
            return
        self.is_accepting = enabled
        for listener in self.sockets:
            if enabled:
                listener.setblocking(False)
                self.selector.register(listener, selectors.EVENT_READ, partial(self.accept, listener))
            else:
                self.selector.unregister(listener)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection."""
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Repeats at each turn of the loop; the log filter of runtime/logs.py limits its rate.
            self.log.error("no connection: %s", error.strerror, extra={"event": "AcceptFailed"})
            self.evict()
            return
        sock.settimeout(WRITE_TIMEOUT)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) >= self.cfg.worker_connections - 1:
            self.evict()
        connection = Connection(sock, address)
        self.connections.add(connection)
        with self.lock:
            self.keep_alive(connection)
        self.watch(connection)

    def watch(self, connection: Connection) -> None:
        """Register a connection for reading."""
        self.selector.register(connection.sock, selectors.EVENT_READ, partial(self.read, connection))

    def read(self, connection: Connection) -> None:
        """Read what has arrived, and queue the connection once it holds a complete request."""
        try:
            data = connection.sock.recv(RECV_SIZE)
        except OSError:
            data = b""
        with self.lock:
            if connection.draining:
                if not data:
                    self.close(connection)
                return
            connection.buffer += data
            if not data:
                connection.eof = True
            if connection.busy:
                if connection.eof or len(connection.buffer) > RECV_SIZE:
                    # The response comes first; further pipelined requests wait in the kernel.
                    connection.paused = True
                    self.selector.unregister(connection.sock)
            elif connection.eof:
                self.close(connection)
            else:
                self.advance(connection)

    def advance(self, connection: Connection) -> None:
        """Queue a connection whose request is complete or will not be read to its end; requires the lock."""
        progress = connection.framing.progress(connection.buffer)
        self.idle.pop(connection, None)
        if progress is Progress.TOO_LONG:
            progress = self.admit_large_body(connection)
        if progress is Progress.COMPLETE:
            self.reading.pop(connection, None)
            self.reading_large.pop(connection, None)
            connection.continue_sent = False
            connection.framing = RequestFraming()
            connection.busy = True
            self.jobs.put(connection)
            return
        if connection not in self.reading and connection not in self.reading_large:
            connection.deadline = time.monotonic() + READ_DEADLINE
            self.reading[connection] = None
        if progress is Progress.EXPECTS_CONTINUE and not connection.continue_sent:
            connection.continue_sent = True
            with contextlib.suppress(OSError):
                connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def admit_large_body(self, connection: Connection) -> Progress:
        """Read a large body if its sender may send one and there is room; otherwise return COMPLETE."""
        limits = self.body_limits
        if limits is None or connection in self.holding_large or len(self.holding_large) >= limits.max_bodies:
            return Progress.COMPLETE
        if not limits.accepts(connection.framing.head(connection.buffer)):
            return Progress.COMPLETE
        connection.framing.raise_body_limit(limits.max_bytes)
        progress = connection.framing.progress(connection.buffer)
        if progress is Progress.TOO_LONG:
            return Progress.COMPLETE
        self.holding_large.add(connection)
        self.reading.pop(connection, None)
        connection.deadline = time.monotonic() + limits.deadline
        self.reading_large[connection] = None
        return progress

    def keep_alive(self, connection: Connection) -> None:
        """Keep a connection open until the next request or its deadline; requires the lock."""
        connection.deadline = time.monotonic() + self.config_copy.keepalive
        self.idle[connection] = None

    def resume_finished(self) -> None:
        """Resume the connections that threads returned to the loop."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup_reader, RECV_SIZE)
        with contextlib.suppress(queue.Empty):
            while True:
                self.resume(*self.finished.get_nowait())

    def resume(self, connection: Connection, keep: bool) -> None:
        """Serve the next pipelined request, keep the connection alive, or close it."""
        with self.lock:
            connection.busy = False
            if connection.paused and not connection.eof:
                connection.paused = False
                self.watch(connection)
            if not keep or (connection.eof and not connection.buffer):
                self.drain(connection)
            elif connection.buffer:
                self.advance(connection)
                if connection.eof and not connection.busy:  # the rest of the request will not arrive
                    self.close(connection)
            else:
                self.keep_alive(connection)

    def drain(self, connection: Connection) -> None:
        """Shut down the sending side and read on until the client closes or the deadline; requires the lock.

        If unread data were left, the kernel would reset the connection and the client could lose the response.
        """
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close(connection)
            return
        if connection.eof:
            self.close(connection)
            return
        connection.draining = True
        connection.deadline = time.monotonic() + DRAIN_DEADLINE
        self.draining[connection] = None

    def close(self, connection: Connection) -> None:
        """Close and forget a connection; requires the lock."""
        for stage in self.stages:
            stage.pop(connection, None)
        self.holding_large.discard(connection)
        self.connections.discard(connection)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.selector.unregister(connection.sock)
        connection.sock.close()

    def close_idle(self) -> None:
        """Close every idle connection."""
        with self.lock:
            for connection in list(self.idle):
                self.close(connection)

    def expire(self, now: float) -> None:
        """Close the connections whose deadline has passed."""
        with self.lock:
            for stage in self.stages:
                while stage:
                    first = next(iter(stage))
                    if first.deadline > now:
                        break
                    self.close(first)

    def evict(self) -> None:
        """Close the connection that has been idle longest, or else the one that has been read longest.

        The first costs its client nothing, the second is slow; a new client waits for neither.
        """
        with self.lock:
            for stage in self.stages:
                if stage:
                    self.close(next(iter(stage)))
                    return

    # -- the threads: parsing and responding

    def run_thread(self) -> None:
        """Serve queued connections until there are no more; no failed request ends the thread."""
        while (connection := self.jobs.get()) is not None:
            keep = False
            try:
                keep = self.serve(connection)
            except OSError as error:
                self.log.debug("a connection broke: %s", type(error).__name__)
            except BaseException as error:
                self.log.error("a request failed", exc_info=error, extra={"event": "UnhandledError"})
            self.finish(connection, keep=keep)

    def serve(self, connection: Connection) -> bool:
        """Respond to one request; returns whether the connection can serve another."""
        with self.lock:
            exchange = Exchange(bytes(connection.buffer), connection.address, self.server, self.config_copy)
            connection.buffer.clear()
        response, keep = exchange.respond(self.wsgi, keep_alive=self.alive)
        if exchange.pipelined and keep:
            with self.lock:
                connection.buffer[:0] = exchange.pipelined
        connection.sock.sendall(response)
        return keep

    def finish(self, connection: Connection, *, keep: bool) -> None:
        """Keep a connection alive, or return it to the loop; called in its thread.

        A returned connection stays busy until the loop resumes it; otherwise pipelined data would be served twice.
        """
        with self.lock:
            self.holding_large.discard(connection)
            if keep and not connection.paused and not connection.buffer:
                connection.busy = False
                self.keep_alive(connection)
                return
        self.finished.put((connection, keep))
        self.wake()
