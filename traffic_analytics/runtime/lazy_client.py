"""What may take its time to open is opened beside those who need it, so that they wait no longer than they can."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Opened = TypeVar("Opened")

AGAIN_AFTER = 5.0
"""Seconds after a failure for which nobody waits for another try."""


class NotReady(Exception):
    """It could not be opened, because of `reason`; or it is being opened, and there is none yet."""

    def __init__(self, reason: BaseException | None = None) -> None:
        super().__init__("not open yet" if reason is None else type(reason).__name__)
        self.reason = reason


class LazyClient(Generic[Opened]):
    """Opens in a thread of its own when the first asks, and after a failure when somebody asks some seconds later.

    Each process opens its own, since what is opened need not survive a fork and the thread does not.
    """

    def __init__(self, open_it: Callable[[], Opened], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._open_it = open_it
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._attempt: Future[Opened] | None = None
        self._owner: int | None = None
        self._not_before = 0.0

    def get(self, timeout: float) -> Opened:
        """Return what is open, after waiting for it at most `timeout` seconds. Raises NotReady."""
        attempt = self._current_attempt()
        try:
            reason = attempt.exception(timeout)
        except TimeoutError:
            raise NotReady from None
        if reason is not None:
            raise NotReady(reason)
        return attempt.result()

    def _current_attempt(self) -> Future[Opened]:
        with self._lock:
            attempt = self._attempt
            if attempt is None or self._owner != os.getpid() or self._may_try_again(attempt):
                attempt = self._attempt = Future()
                self._owner = os.getpid()
                try:
                    threading.Thread(target=self._try, args=[attempt], name="opening", daemon=True).start()
                except RuntimeError as error:  # there are too many threads
                    self._fail(attempt, error)
            return attempt

    def _may_try_again(self, attempt: Future[Opened]) -> bool:
        return attempt.done() and attempt.exception() is not None and self._monotonic() >= self._not_before

    def _try(self, attempt: Future[Opened]) -> None:
        try:
            opened = self._open_it()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told to those who ask
            self._fail(attempt, error)
        else:
            attempt.set_result(opened)

    def _fail(self, attempt: Future[Opened], error: BaseException) -> None:
        self._not_before = self._monotonic() + AGAIN_AFTER
        attempt.set_exception(error)
