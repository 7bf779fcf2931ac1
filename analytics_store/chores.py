"""What the store does by itself runs in threads that are started when the worker is ready, never on import."""

import logging
import threading
from collections.abc import Callable
from functools import partial

from analytics_store import versions
from analytics_store.errors import StoreError
from analytics_store.logs import say
from analytics_store.store import Store
from analytics_store.upkeep import forget

SECONDS_BETWEEN_RETENTIONS = 3_600.0


class Chore:
    """Does its work at once and then again and again, until told to stop; a failure is said as `store.NAME_failed`."""

    def __init__(self, name: str, work: Callable[[], object], seconds_between: float) -> None:
        self._name = name
        self._work = work
        self._seconds_between = seconds_between
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let work in progress finish, then end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._work()
            except StoreError as error:
                say(logging.ERROR, f"store.{self._name}_failed", reason=str(error))
            if self._stopping.wait(self._seconds_between):
                return


def chores_of(store: Store) -> list[Chore]:
    """List what a store does by itself; it forgets only if there is a retention."""
    chores = [Chore("collapse", versions.Versions(store).collapse_if_grown, versions.SECONDS_BETWEEN)]
    if store.settings.retention_days is not None:
        chores.append(Chore("retention", partial(forget, store), SECONDS_BETWEEN_RETENTIONS))
    return chores
