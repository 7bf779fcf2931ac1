"""Compute a value once for all threads that request it at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Value = TypeVar("Value")


class SingleFlight(Generic[Value]):
    """Have the first thread that requests a key compute its value; all threads that wait for it share the result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Value]] = {}

    def share(self, key: Hashable, compute: Callable[[], Value], timeout: float) -> tuple[Value, bool]:
        """Return the value, and whether this thread computed it.

        Every thread gets the exception that `compute` raises. Raises TimeoutError in a thread that waited for `timeout`
        seconds.
        """
        with self._lock:
            flight = self._flights.get(key)
            is_first = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if not is_first:
            return flight.result(timeout), False
        try:
            flight.set_result(compute())
        except BaseException as error:  # or the threads that wait would time out
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
        return flight.result(), True
