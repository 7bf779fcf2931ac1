"""What a process does beside answering: chores, each in a thread of its own, which no failure ends."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

AFTER_FAILURE = 5.0
"""Seconds until a chore that failed is called again."""


class Service(Protocol):
    """What lives as long as a process and has a thread of its own."""

    def start(self) -> None:
        """Begin, in the process that is to have it."""

    def stop(self, timeout: float) -> None:
        """End within `timeout` seconds."""


class Background:
    """Calls each chore, waits as long as it returned (seconds), and calls it again until told to stop."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._chores: dict[str, tuple[Callable[[], float], Callable[[], None]]] = {}
        self._on_stop: list[Callable[[], None]] = []
        self._threads: list[threading.Thread] = []
        self._companions: list[Service] = []

    def add(
        self,
        name: str,
        chore: Callable[[], float],
        finish: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        """Add a chore before the start.

        `finish` is called once, in the same thread, after its last call; `on_stop` at once when it is to end, in
        another thread, while a call may be under way.
        """
        self._chores[name] = chore, finish
        if on_stop is not None:
            self._on_stop.append(on_stop)

    def add_service(self, companion: Service) -> None:
        """Let something begin before the chores and end after them."""
        self._companions.append(companion)

    def start(self) -> None:
        """Start the threads; call it in the process that is to run them, after any fork."""
        for companion in self._companions:
            companion.start()
        for name, chore_and_finish in self._chores.items():
            thread = threading.Thread(target=self._run, args=chore_and_finish, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout: float) -> None:
        """Ask the threads to end and wait for them, at most `timeout` seconds each."""
        self.stopping.set()
        for on_stop in self._on_stop:
            on_stop()
        for thread in self._threads:
            thread.join(timeout)
        for companion in self._companions:
            companion.stop(timeout)

    def _run(self, chore: Callable[[], float], finish: Callable[[], None]) -> None:
        wait = 0.0
        while not self.stopping.wait(wait):
            try:
                wait = chore()
            except Exception as error:  # noqa: BLE001 - a chore that failed is tried again; a dead thread is not
                _log.error("a chore failed", exc_info=error, extra={"event": "ChoreFailed"})
                wait = AFTER_FAILURE
        finish()
