"""Threads serve whole requests only, so that no client can hold one by sending slowly.

gunicorn's threaded worker gives a thread to a connection as soon as it has sent a byte; the thread then waits for the
rest. A few hundred clients that send one byte a second are enough to take every thread from everybody else. Here one
loop reads all connections without ever waiting for one of them, and a thread sees a request when it is complete.

    accepted ──bytes──▶ reading ──complete──▶ in a thread ──answered──▶ idle ──bytes──▶ reading …
                           │ 10 s                              │ close        │ keepalive
                           ▼                                   ▼              ▼
                         dropped                         draining (2 s)    closed

The loop alone reads sockets, opens and closes them; a thread parses from memory, and writes the answer in one piece.
A body longer than any hit's is read only if `large_bodies` says so, as one of a few and for as long as it says.
Sockets stay registered with the poller for as long as they live, which saves the system calls of moving them in and
out. What gunicorn has and this has not: TLS and HTTP/2 (a proxy in front does that), access logs (they hold addresses),
and answers that are streamed.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import selectors
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import ThreadWorker

from traffic_analytics.gunicorn_worker import exchange as http_exchange
from traffic_analytics.gunicorn_worker.request_framing import Progress, RequestFraming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from traffic_analytics.gunicorn_worker.body_limits import LargeBodies

READ_DEADLINE = 10.0
"""Seconds from a request's first byte to its last, but for large bodies; the browser itself gives up after 5."""
DRAIN_DEADLINE = 2.0
"""Seconds for which a closed connection is still read, so that the client gets the answer and no reset."""
IDLE_AFTER_STOP = 2.0
"""Seconds for which a stopping worker keeps idle connections, for requests that are on their way."""
WRITE_TIMEOUT = 5.0
"""Seconds for which a thread waits for a client to take its answer."""
ORDERS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What a worker is told to stop by; blocked from its fork on until it has handlers of its own."""
CHUNK = 65_536


class Connection:
    """One client: what it has sent and not yet been answered for."""

    __slots__ = ("buffer", "busy", "client", "deadline", "draining", "end", "eof", "paused", "sock", "told_to_continue")

    def __init__(self, sock: socket.socket, client: Any) -> None:
        self.sock = sock
        self.client = client
        self.buffer = bytearray()
        self.end = RequestFraming()
        self.busy = False
        self.eof = False
        self.paused = False
        self.draining = False
        self.told_to_continue = False
        self.deadline = 0.0


class BufferingWorker(ThreadWorker):  # type: ignore[misc] # gunicorn is not typed
    """gunicorn's threaded worker, with all reading done by its event loop."""

    large_bodies: LargeBodies | None = None
    """Which bodies may be long; set by gunicorn.conf.py once the application is loaded."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ARG003 - gunicorn's signature
        """Refuse what this worker does not do."""
        if cfg.is_ssl:
            raise RuntimeError("BufferingWorker does not speak TLS: put a proxy in front, or use the gthread worker")

    def init_process(self) -> None:
        """Prepare in the worker's process, then run."""
        self.state_lock = threading.Lock()
        self.connections: set[Connection] = set()
        # Each is in the order of its deadlines, which are all equally long.
        self.reading: dict[Connection, None] = {}
        self.reading_large: dict[Connection, None] = {}
        self.idle: dict[Connection, None] = {}
        self.draining: dict[Connection, None] = {}
        self.stages = (self.idle, self.reading, self.reading_large, self.draining)
        self.large: set[Connection] = set()  # those of which a large body is in memory
        self.jobs: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self.plain_cfg = http_exchange.plain(self.cfg)
        self.server = self.sockets[0].getsockname()
        super().init_process()

    def init_signals(self) -> None:
        """Take orders from now on, those included that came while the process was being born."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)

    def get_thread_pool(self) -> ThreadPool:
        """Make the threads that serve requests."""
        return ThreadPool(self.cfg.threads, self.jobs, self.serve)

    def run(self) -> None:
        """Serve until told to stop, then finish what has been begun."""
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        self.tpool.start()
        while self.alive:
            self.notify()
            self.set_accept_enabled(len(self.connections) < self.worker_connections)
            self.wait_for_and_dispatch_events(timeout=1.0)
            if not self.is_parent_alive():
                break
            self.expire(time.monotonic())
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()
        stop_by = time.monotonic() + self.cfg.graceful_timeout
        drop_idle_at = time.monotonic() + IDLE_AFTER_STOP
        while self.connections and time.monotonic() < stop_by:
            self.notify()
            if time.monotonic() >= drop_idle_at:
                self.close_all(self.idle)
            self.wait_for_and_dispatch_events(timeout=0.2)
            self.expire(time.monotonic())
        self.tpool.shutdown()

    # -- the loop: reading and closing

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection and wait for what it sends."""
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Repeats at each turn of the loop; the log filter of runtime/logs.py limits its rate.
            self.log.error("no connection: %s", error.strerror, extra={"event": "AcceptFailed"})
            self.make_room()
            return
        sock.settimeout(WRITE_TIMEOUT)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) >= self.worker_connections - 1:
            self.make_room()
        connection = Connection(sock, client)
        self.connections.add(connection)
        with self.state_lock:
            self.rest(connection)
        self.poller.register(sock, selectors.EVENT_READ, partial(self.read, connection))

    def read(self, connection: Connection, _sock: socket.socket) -> None:
        """Take what has arrived, and hand the connection to a thread once that is a whole request."""
        try:
            data = connection.sock.recv(CHUNK)
        except OSError:
            data = b""
        with self.state_lock:
            if connection.draining:
                if not data:
                    self.close(connection)
                return
            connection.buffer += data
            if not data:
                connection.eof = True
            if connection.busy:
                if connection.eof or len(connection.buffer) > CHUNK:
                    # Answer first: what a client sends ahead of its answer waits in the kernel meanwhile.
                    connection.paused = True
                    self.poller.unregister(connection.sock)
            elif connection.eof:
                self.close(connection)
            else:
                self.advance(connection)

    def advance(self, connection: Connection) -> None:
        """Queue a connection whose request is complete, or too large to be read at all; holds the lock."""
        state = connection.end.progress(connection.buffer)
        self.idle.pop(connection, None)
        if state is Progress.TOO_LONG:
            state = self.admit(connection)
        if state is Progress.COMPLETE:
            self.reading.pop(connection, None)
            self.reading_large.pop(connection, None)
            connection.told_to_continue = False
            connection.end = RequestFraming()
            connection.busy = True
            self.jobs.put(connection)
            return
        if connection not in self.reading and connection not in self.reading_large:
            connection.deadline = time.monotonic() + READ_DEADLINE
            self.reading[connection] = None
        if state is Progress.CONTINUE and not connection.told_to_continue:
            connection.told_to_continue = True
            with contextlib.suppress(OSError):
                connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def admit(self, connection: Connection) -> Progress:
        """Wait for a large body if its sender may send one and there is room; else hand its request on unread."""
        bodies = self.large_bodies
        if bodies is None or connection in self.large or len(self.large) >= bodies.most:
            return Progress.COMPLETE
        if not bodies.wanted(connection.end.head(connection.buffer)):
            return Progress.COMPLETE
        connection.end.allow(bodies.limit)
        state = connection.end.progress(connection.buffer)
        if state is Progress.TOO_LONG:
            return Progress.COMPLETE
        self.large.add(connection)
        self.reading.pop(connection, None)
        connection.deadline = time.monotonic() + bodies.deadline
        self.reading_large[connection] = None
        return state

    def rest(self, connection: Connection) -> None:
        """Keep a connection without a request until its client sends one or the time is up."""
        connection.deadline = time.monotonic() + self.plain_cfg.keepalive
        self.idle[connection] = None

    def answered(self, connection: Connection, *, keep: bool) -> None:
        """Decide what becomes of a connection that a thread is done with; called in that thread.

        Unless it rests it stays busy until the loop goes on with it, or what arrives meanwhile would be served twice.
        """
        with self.state_lock:
            self.large.discard(connection)
            if keep and not connection.paused and not connection.buffer:
                connection.busy = False
                self.rest(connection)
                return
        self.method_queue.defer(self.go_on, connection, keep)

    def go_on(self, connection: Connection, keep: bool) -> None:
        """Serve what was sent ahead, or close."""
        with self.state_lock:
            connection.busy = False
            if connection.paused and not connection.eof:
                connection.paused = False
                self.poller.register(connection.sock, selectors.EVENT_READ, partial(self.read, connection))
            if not keep or (connection.eof and not connection.buffer):
                self.drain(connection)
            elif connection.buffer:
                self.advance(connection)
                if connection.eof and not connection.busy:  # the rest of it will not come
                    self.close(connection)
            else:
                self.rest(connection)

    def drain(self, connection: Connection) -> None:
        """Say that we are done and read on a little, or the kernel would reset the connection and lose the answer."""
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
        """Forget a connection; holds the lock."""
        for stage in self.stages:
            stage.pop(connection, None)
        self.large.discard(connection)
        self.connections.discard(connection)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.poller.unregister(connection.sock)
        connection.sock.close()

    def close_all(self, connections: Iterable[Connection]) -> None:
        """Close every connection of a stage."""
        with self.state_lock:
            for connection in list(connections):
                self.close(connection)

    def expire(self, now: float) -> None:
        """Close what has waited for too long."""
        with self.state_lock:
            for stage in self.stages:
                while stage:
                    first = next(iter(stage))
                    if first.deadline > now:
                        break
                    self.close(first)

    def make_room(self) -> None:
        """Close the connection that has been idle longest, or else the one that has been sending longest.

        A new visitor should not be kept waiting for either: the first costs its owner nothing, and the second is slow.
        """
        with self.state_lock:
            for stage in self.stages:
                if stage:
                    self.close(next(iter(stage)))
                    return

    # -- the threads: parsing and answering

    def serve(self, connection: Connection) -> None:
        """Answer one request; runs in a thread."""
        keep = False
        try:
            with self.state_lock:
                exchange = http_exchange.Exchange(
                    bytes(connection.buffer), connection.client, self.server, self.plain_cfg
                )
                connection.buffer.clear()
            answer, keep = exchange.answer(self.wsgi, keep_alive=self.alive)
            if exchange.ahead and keep:
                with self.state_lock:
                    connection.buffer[:0] = exchange.ahead
            connection.sock.sendall(answer)
        except OSError as error:
            keep = False
            self.log.debug("a connection broke: %s", type(error).__name__)
        finally:
            self.answered(connection, keep=keep)


class ThreadPool:
    """As many threads as there may be requests at a time, taking connections from a queue."""

    def __init__(self, size: int, jobs: queue.SimpleQueue[Any], serve: Callable[[Any], None]) -> None:
        self._jobs = jobs
        self._serve = serve
        self._threads = [threading.Thread(target=self._run, name=f"hits-{n}", daemon=True) for n in range(size)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def shutdown(self, wait: bool = True) -> None:
        """End each thread after the request it is at, without waiting for it if so told."""
        for _ in self._threads:
            self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join(1.0)

    def _run(self) -> None:
        while (connection := self._jobs.get()) is not None:
            with contextlib.suppress(Exception):  # `serve` has closed the connection; the thread is still needed
                self._serve(connection)
