"""Serve the requests that are there together in one thread, and wake another only if that one blocks.

- At most one thread is the server: it takes one request after the other. The loop wakes one thread for all requests of
  a turn, and none while there is a server.
- A server that has taken no further request for BLOCKED_AFTER may wait for a disk or for another machine: the next
  thread becomes the server. The first one finishes its request and waits again.
- Requests whose responses are not ready are deferred: their waiting starts once all requests that were there have been
  served. So an application can do the work of many requests at once, and those that arrive meanwhile are the next.
- Deferred responses belong to no thread. Each of them may block, and then the next server waits for the others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BLOCKED_AFTER = 0.002
"""Time after which the thread that serves counts as blocked if other requests wait, in seconds."""
MAX_DEFERRED = 64
"""Responses that are deferred before the server waits for them."""
STOP_PATIENCE = 1.0
"""Time for which each thread may finish its request at the end, in seconds."""

Request = TypeVar("Request")


class ServingThreads(Generic[Request]):
    """Threads of one worker.

    `serve` handles a request. If the response is not ready, it returns a function that waits for it, or has another
    thread do so. Neither may raise.
    """

    def __init__(self, serve: Callable[[Request], Callable[[], None] | None]) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._requests: deque[Request] = deque()
        # A thread that adds to it does not sleep before it is empty.
        self._deferred: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._idle: list[threading.Lock] = []  # each thread waits for its own lock; the last is woken first
        self._server: threading.Lock | None = None
        self._taken_at = 0.0  # by the server
        self._is_stopping = False

    def start(self, count: int) -> None:
        """Start the threads."""
        self._threads = [threading.Thread(target=self._run, name=f"hits-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def add(self, requests: Sequence[Request]) -> None:
        """Have requests served in their order; called by one thread only, the loop."""
        self._requests.extend(requests)
        self.check()

    def check(self) -> bool:
        """Wake a thread if there is work and none serves; returns whether to check again after BLOCKED_AFTER."""
        if not self._requests and not self._deferred:
            return False
        now = time.monotonic()
        with self._lock:
            if self._server is not None and now - self._taken_at < BLOCKED_AFTER:
                return True
            self._server = None
            self._wake_one(now)
            # Without an idle thread, the first that has finished its request becomes the server, and may block at once.
            return self._server is None or len(self._requests) + len(self._deferred) > 1

    def stop(self) -> None:
        """End the threads once they have finished their requests."""
        with self._lock:
            self._is_stopping = True
            for thread in self._idle:
                thread.release()
            self._idle.clear()
        for each in self._threads:
            each.join(STOP_PATIENCE)

    def _wake_one(self, now: float) -> None:
        """Make an idle thread the server, if there is one; requires the lock."""
        if self._idle:
            self._server = self._idle.pop()
            self._taken_at = now
            self._server.release()

    def _run(self) -> None:
        """Serve until the worker stops."""
        me = threading.Lock()
        me.acquire()
        while True:
            with self._lock:
                is_server = bool(self._requests) and self._server is None
                if is_server:
                    self._server = me
                elif self._is_stopping:
                    return
                else:
                    self._idle.append(me)
            if not is_server:
                me.acquire()
            self._be_server(me)

    def _be_server(self, me: threading.Lock) -> None:
        """Serve until no request is there, or until another thread is the server."""
        while self._server is me:
            while self._server is me and len(self._deferred) < MAX_DEFERRED:
                try:
                    request = self._requests.popleft()
                except IndexError:
                    break
                self._taken_at = time.monotonic()
                wait = self._serve(request)
                if wait is not None:
                    self._deferred.append(wait)
            self._wait_for_deferred(me)
            with self._lock:
                if self._server is me and not self._requests:
                    self._server = None

    def _wait_for_deferred(self, me: threading.Lock) -> None:
        """Wait for all deferred responses, also as a thread that is no longer the server."""
        while True:
            try:
                wait = self._deferred.popleft()
            except IndexError:
                return
            if self._server is me:
                self._taken_at = time.monotonic()
            wait()
