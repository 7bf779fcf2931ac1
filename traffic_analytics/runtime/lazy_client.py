"""Open a client once per process, in its own thread, so that callers wait no longer than their timeout."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Client = TypeVar("Client")

AGAIN_AFTER = 5.0
"""Time from a failed attempt to the next, in seconds."""


class NotReady(Exception):
    """The client cannot be used: opening it failed with `reason`, or has not ended yet (None)."""

    def __init__(self, reason: BaseException | None = None) -> None:
        super().__init__("not open yet" if reason is None else type(reason).__name__)
        self.reason = reason


class LazyClient(Generic[Client]):
    """Open a client at the first call of `get`, and again at the first call AGAIN_AFTER a failed attempt.

    Each process opens its own, because neither gRPC nor the opening thread survives a fork.
    """

    def __init__(self, open_client: Callable[[], Client], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._open = open_client
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._attempt: Future[Client] | None = None
        self._owner: int | None = None
        self._not_before = 0.0

    def get(self, timeout: float) -> Client:
        """Return the open client after waiting at most `timeout` seconds. Raises NotReady."""
        attempt = self._current_attempt()
        try:
            reason = attempt.exception(timeout)
        except TimeoutError:
            raise NotReady from None
        if reason is not None:
            raise NotReady(reason)
        return attempt.result()

    def discard(self, client: Client) -> bool:
        """Have the next call of `get` open another client; False if `client` has been discarded already."""
        with self._lock:
            attempt = self._attempt
            if attempt is None or not attempt.done() or attempt.exception() or attempt.result() is not client:
                return False
            self._attempt = None
            return True

    def _current_attempt(self) -> Future[Client]:
        with self._lock:
            attempt = self._attempt
            if attempt is None or self._owner != os.getpid() or self._may_try_again(attempt):
                attempt = self._attempt = Future()
                self._owner = os.getpid()
                try:
                    threading.Thread(target=self._try, args=[attempt], name="open-client", daemon=True).start()
                except RuntimeError as error:  # there are too many threads
                    self._fail(attempt, error)
            return attempt

    def _may_try_again(self, attempt: Future[Client]) -> bool:
        return attempt.done() and attempt.exception() is not None and self._monotonic() >= self._not_before

    def _try(self, attempt: Future[Client]) -> None:
        try:
            client = self._open()
        except BaseException as error:  # noqa: BLE001 - raised in the threads that wait
            self._fail(attempt, error)
        else:
            attempt.set_result(client)

    def _fail(self, attempt: Future[Client], error: BaseException) -> None:
        self._not_before = self._monotonic() + AGAIN_AFTER
        attempt.set_exception(error)
