"""Read whole requests in one event loop and serve them in threads.

gunicorn's threaded worker waits in a thread for the rest of a request, so a few clients that send one byte a second
occupy every thread. Here `event_loop.py` reads all connections, and threads get complete requests, parsed and together,
and hand each response over in one piece. Neither waits for a client.

Not supported: TLS and HTTP/2 (left to a proxy), access logs (they hold addresses), streamed responses.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn.workers.base import Worker

from traffic_analytics.gunicorn_worker.event_loop import EventLoop
from traffic_analytics.gunicorn_worker.exchange import Exchange
from traffic_analytics.gunicorn_worker.request_head import HeadParser
from traffic_analytics.gunicorn_worker.serving_threads import ServingThreads

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from traffic_analytics.gunicorn_worker.body_limits import BodyLimits
    from traffic_analytics.gunicorn_worker.connection import Connection

IDLE_AFTER_STOP = 2.0
"""Time for which a stopping worker keeps idle connections, in seconds; a request may be on its way."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""Signals that stop a worker; blocked from the fork until the worker has its own handlers."""


class BufferingWorker(Worker):  # type: ignore[misc] # gunicorn is not typed
    """gunicorn worker with one event loop that reads and threads that serve."""

    body_limits: BodyLimits | None = None
    """Limits for large bodies; set by gunicorn.conf.py once the application is loaded."""
    limit_peers = False
    """Limit the connections of each client address; set by gunicorn.conf.py if clients connect without a proxy."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ARG003 - gunicorn's signature
        """Refuse settings that this worker does not support."""
        if cfg.is_ssl:
            raise RuntimeError("BufferingWorker does not speak TLS: put a proxy in front, or use the gthread worker")

    def init_process(self) -> None:
        """Prepare in the worker's process, then run."""
        parse = HeadParser(self.cfg, self.sockets[0].getsockname()).parse
        self.threads = ServingThreads(self.serve)
        self.loop = EventLoop(
            self.sockets, self.cfg.worker_connections, self.cfg.keepalive, self.log, parse, self.threads
        )
        super().init_process()

    def init_signals(self) -> None:
        """Handle signals from now on, including those that arrived while the process started."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully, without waiting for the loop's next second."""
        super().handle_exit(sig, frame)
        self.loop.wake()

    def run(self) -> None:
        """Serve until stopped, then finish the requests that have started."""
        self.loop.body_limits = self.body_limits
        self.loop.table.limit_peers = self.limit_peers
        self.threads.start(self.cfg.threads)
        while self.alive:
            self.notify()
            self.loop.turn()
            if self.ppid != os.getppid():
                self.log.info("Parent changed, shutting down: %s", self)
                break
        self.loop.stop_accepting()
        stop_by = time.monotonic() + self.cfg.graceful_timeout
        close_idle_at = time.monotonic() + IDLE_AFTER_STOP
        while self.loop.table.all and time.monotonic() < stop_by:
            self.notify()
            self.loop.turn_while_stopping(close_idle=time.monotonic() >= close_idle_at)
        self.threads.stop()

    def serve(self, connection: Connection) -> Callable[[], None] | None:
        """Respond to one request; returns a function that waits for its response if that is not ready."""
        try:
            head, data = self.loop.take_request(connection)
            exchange = Exchange(head, data, is_cut=connection.is_cut)
            on_ready = exchange.start(self.wsgi, connection.address)
        except BaseException as error:
            self.log.error("a request failed", exc_info=error, extra={"event": "UnhandledError"})
            self.loop.finish(connection, keep=False)
            return None
        if on_ready is not None:
            return partial(self._wait, connection, exchange, on_ready)
        self._respond(connection, exchange)
        return None

    def _wait(self, connection: Connection, exchange: Exchange, on_ready: Callable[[Callable[[], None]], None]) -> None:
        """Have the response sent once it is ready, by the thread that learns of it."""
        try:
            on_ready(partial(self._respond, connection, exchange))
        except BaseException as error:  # noqa: BLE001 - logged with the response
            exchange.fail(error)
            self._respond(connection, exchange)

    def _respond(self, connection: Connection, exchange: Exchange) -> None:
        """Send a response that is ready, once; a failure closes the connection and harms no other request."""
        if not exchange.claim():
            return
        keep = False
        try:
            response, keep = exchange.respond(keep_alive=self.alive)
            self.loop.respond(connection, response, exchange.pipelined if keep else b"")
        except OSError as error:
            keep = False
            self.log.debug("a connection broke: %s", type(error).__name__)
        except BaseException as error:
            keep = False
            self.log.error("a request failed", exc_info=error, extra={"event": "UnhandledError"})
        self.loop.finish(connection, keep=keep)
