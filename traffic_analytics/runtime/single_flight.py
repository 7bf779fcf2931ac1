"""What several threads want at the same time is made once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Made = TypeVar("Made")


class SingleFlight(Generic[Made]):
    """The first thread that asks for a key makes its value; those that ask meanwhile wait and get the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Made]] = {}

    def share(self, key: Hashable, make: Callable[[], Made], timeout: float) -> tuple[Made, bool]:
        """Return the value, and whether this thread made it.

        Raises what making it raised, in every thread, and TimeoutError in one that waited for `timeout` seconds.
        """
        with self._lock:
            flight = self._flights.get(key)
            mine = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if not mine:
            return flight.result(timeout), False
        try:
            flight.set_result(make())
        except BaseException as error:  # whatever it is, nobody is left waiting
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
        return flight.result(), True
