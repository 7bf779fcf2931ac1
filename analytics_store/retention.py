"""Old hits are deleted by a thread that is started when the worker is ready, never on import."""

import logging
import threading

from analytics_store.errors import StoreError
from analytics_store.logs import say
from analytics_store.store import Store
from analytics_store.upkeep import forget

SECONDS_BETWEEN = 3_600.0


class Retention:
    """Forgets old hits at once and then every hour, until told to stop."""

    def __init__(self, store: Store, seconds_between: float = SECONDS_BETWEEN) -> None:
        self._store = store
        self._seconds_between = seconds_between
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Start the thread, if there is a retention at all."""
        if self._store.settings.retention_days is not None:
            self._thread.start()

    def stop(self) -> None:
        """Let a deletion in progress finish, then end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                forget(self._store)
            except StoreError as error:
                say(logging.ERROR, "store.retention_failed", reason=str(error))
            self._stopping.wait(self._seconds_between)
