"""Read whole requests in one event loop and serve them in threads.

gunicorn's threaded worker waits in a thread for the rest of a request, so a few clients that send one byte a second
occupy every thread. Here `event_loop.py` reads all connections, a thread gets complete requests, parses them from
memory and hands each response over in one piece. Neither waits for a client.

Not supported: TLS and HTTP/2 (left to a proxy), access logs (they hold addresses), streamed responses.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from gunicorn.workers.base import Worker

from traffic_analytics.gunicorn_worker.event_loop import EventLoop
from traffic_analytics.gunicorn_worker.exchange import Exchange, copy_config

if TYPE_CHECKING:
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
        self.config_copy = copy_config(self.cfg)
        self.server = self.sockets[0].getsockname()
        self.loop = EventLoop(self.sockets, self.cfg.worker_connections, self.cfg.keepalive, self.log)
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
        threads = [
            threading.Thread(target=self.run_thread, name=f"hits-{n}", daemon=True) for n in range(self.cfg.threads)
        ]
        for thread in threads:
            thread.start()
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
        for _ in threads:
            self.loop.jobs.put(None)
        for thread in threads:
            thread.join(1.0)

    def run_thread(self) -> None:
        """Serve queued connections until there are no more; no failed request ends the thread."""
        while (connection := self.loop.jobs.get()) is not None:
            keep = False
            try:
                keep = self.serve(connection)
            except OSError as error:
                self.log.debug("a connection broke: %s", type(error).__name__)
            except BaseException as error:
                self.log.error("a request failed", exc_info=error, extra={"event": "UnhandledError"})
            self.loop.finish(connection, keep=keep)

    def serve(self, connection: Connection) -> bool:
        """Respond to one request; returns whether the connection can serve another."""
        data = self.loop.take_request(connection)
        exchange = Exchange(data, connection.address, self.server, self.config_copy, is_cut=connection.is_cut)
        response, keep = exchange.respond(self.wsgi, keep_alive=self.alive)
        self.loop.respond(connection, response, exchange.pipelined if keep else b"")
        return keep
