"""Run chores in threads of their own beside the requests; only a damaged file ends a chore."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from traffic_analytics.errors import AnalyticsError, DamagedFile

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

AFTER_FAILURE = 5.0
"""Pause before a chore that failed is called again, in seconds."""


class Service(Protocol):
    """A part with a thread of its own, which lives as long as the process."""

    def start(self) -> None:
        """Start, in the process that uses the service."""

    def stop(self, timeout: float) -> None:
        """End within `timeout` seconds."""


class Background:
    """Call each chore until the stop, with a pause of as many seconds as its call returned."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.damage: DamagedFile | None = None
        self._chores: list[tuple[str, Callable[[], float], Callable[[], None]]] = []
        self._on_stop: list[Callable[[], None]] = []
        self._threads: list[threading.Thread] = []
        self._services: list[Service] = []
        self._on_damage: Callable[[], None] = lambda: None

    def add(
        self,
        name: str,
        chore: Callable[[], float],
        finish: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        """Add a chore before the start.

        `finish` is called once, in the chore's thread, after its last call. `on_stop` is called at the stop, in another
        thread, while a call of the chore may be in progress.
        """
        self._chores.append((name, chore, finish))
        if on_stop is not None:
            self._on_stop.append(on_stop)

    def add_service(self, service: Service) -> None:
        """Add a service, which starts before the chores and stops after them."""
        self._services.append(service)

    def start(self, on_damage: Callable[[], None] = lambda: None) -> None:
        """Start the threads. Call it in the process that uses them: a thread does not survive a fork.

        `on_damage` is called if a chore finds a damaged file, which `damage` holds then; it stops the process.
        """
        self._on_damage = on_damage
        for service in self._services:
            service.start()
        for chore in self._chores:
            thread = threading.Thread(target=self._run, args=chore, name=chore[0], daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout: float) -> None:
        """End the threads, and wait at most `timeout` seconds for each."""
        self.stopping.set()
        for on_stop in self._on_stop:
            on_stop()
        for thread in self._threads:
            thread.join(timeout)
        for service in self._services:
            service.stop(timeout)

    def _run(self, name: str, chore: Callable[[], float], finish: Callable[[], None]) -> None:
        pause = 0.0
        while not self.stopping.wait(pause):
            try:
                pause = chore()
            except DamagedFile as error:
                _log.critical("Traffic Analytics stops: %s", error, extra={"event": "DamagedFile"})
                self.damage = error
                self._on_damage()
                break
            except Exception as error:  # noqa: BLE001 - a chore that failed is tried again; a dead thread is not
                # Only the message of an error of ours is known to quote no client data.
                reason = str(error) if isinstance(error, AnalyticsError) else "a defect"
                extra = {"event": "ChoreFailed", "chore": name}
                _log.error("the chore %s failed: %s", name, reason, exc_info=error, extra=extra)
                pause = AFTER_FAILURE
        finish()
