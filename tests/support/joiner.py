"""Submit items to a joiner whose work ends when a test allows it."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.processes import PATIENCE, wait_until
from traffic_analytics.runtime.joiner import Joiner, Pending

if TYPE_CHECKING:
    from collections.abc import Callable


class Work:
    """Record each batch, and end it once the test allows; the outcome of an item is its square."""

    def __init__(self, **options: Any) -> None:
        self.batches: list[list[int]] = []
        self.failures: list[BaseException | None] = []
        self.outcome_of: dict[int, int | Exception] = {}
        self.calls: Counter[int] = Counter()
        self.joiner: Joiner[int, int] = Joiner(self._work, **options)
        self._go_on = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def _work(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        assert self._go_on.acquire(timeout=PATIENCE)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return [item * item for item in items]

    def allow(self, batches: int = 1) -> None:
        for _ in range(batches):
            self._go_on.release()

    def wait_for(self, *items: int) -> None:
        """Submit and await each item in a thread of its own that sleeps until it is settled."""
        for item in items:
            self._run(partial(self._wait_for, item))

    def call_back_for(self, *items: int) -> None:
        """Submit all items in one thread, then await them with callbacks."""
        self._run(partial(self._call_back_for, items))

    def submitted(self, *items: int) -> None:
        """Return once so many items wait or are settled."""
        wait_until(lambda: len(self.joiner._waiting) + sum(map(len, self.batches)) >= len(items))

    def join(self) -> dict[int, int | Exception]:
        """Wait for all threads; check that each item was settled once."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert set(self.calls.values()) <= {1}
        assert set(self.calls) == set(self.outcome_of)
        return self.outcome_of

    def _run(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wait_for(self, item: int) -> None:
        self._record(item, self._forgiving(self.joiner.submit(item).wait))

    def _call_back_for(self, items: tuple[int, ...]) -> None:
        pending = {item: self.joiner.submit(item) for item in items}
        for item, each in pending.items():
            self._forgiving(partial(each.on_ready, partial(self._record_settled, item, each)))

    def _forgiving(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Stop as error:
            return error

    def _record_settled(self, item: int, pending: Pending[int, int]) -> None:
        self._record(item, pending.outcome)

    def _record(self, item: int, outcome: Any) -> None:
        self.calls[item] += 1
        self.outcome_of[item] = outcome


class Stop(BaseException):
    """Stop a thread, as SystemExit does."""


WAYS: dict[str, Callable[[Work, int], None]] = {
    "wait": lambda work, item: work.wait_for(item),
    "on_ready": lambda work, item: work.call_back_for(item),
}


def start(work: Work, way: str, *items: int) -> None:
    """Await the first item, and all others during its work."""
    WAYS[way](work, items[0])
    wait_until(lambda: work.batches)
    for item in items[1:]:
        waiting = len(work.joiner._waiting)
        WAYS[way](work, item)
        wait_until(partial(_has_more, work, waiting))


def _has_more(work: Work, waiting: int) -> bool:
    return len(work.joiner._waiting) > waiting
