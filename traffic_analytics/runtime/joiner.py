"""Do the work for several items together, because a commit or a request costs more than an item.

Invariants:

- Each item is settled exactly once, whatever `work` raises, and its callback is called exactly once.
- There are no threads of its own: a thread that awaits an item leads if there is a place. It works for all that waits,
  calls back, and goes on until nothing waits. Otherwise it is free at once, or sleeps until its item is settled.
- While an awaited item waits, a thread leads, or has been woken to lead.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Interrupted(Exception):
    """The thread that worked was stopped; it is unknown how much of the work was done."""


class _Turn:
    """Items that one thread submits before it awaits them: the number of those that are not awaited yet."""

    __slots__ = ("is_over", "open")

    def __init__(self) -> None:
        self.open = 0
        self.is_over = False  # the thread has begun to await


class Pending(Generic[Item, Outcome]):
    """One item, and its outcome once it is settled; an exception is the outcome of work that failed."""

    __slots__ = ("can_lead", "is_settled", "is_taken", "item", "joiner", "outcome", "turn", "wake")

    outcome: Outcome | Exception

    def __init__(self, joiner: Joiner[Item, Outcome], item: Item, turn: _Turn) -> None:
        self.joiner = joiner
        self.item = item
        self.turn: _Turn | None = turn
        self.wake: Callable[[], object] | None = None
        self.can_lead = False
        """True if `wake` wakes a thread that can lead."""
        self.is_taken = False
        self.is_settled = False

    def on_ready(self, callback: Callable[[], object]) -> None:
        """Call `callback` once the item is settled: within this call, or later in another thread.

        A thread that has submitted several items leads in the last of its calls. So it has passed all callbacks before
        it works, also for other threads.
        """
        joiner = self.joiner
        with joiner.lock:
            is_last = self._leave_turn()
            is_settled = self.is_settled
            if not is_settled:
                self._add_wake(callback)
            leads = is_last and joiner.begin_to_lead()
        if is_settled:
            callback()
        if leads:
            joiner.lead()

    def wait(self) -> Outcome | Exception:
        """Return the outcome once the item is settled; lead until then if there is a place."""
        joiner = self.joiner
        while True:
            with joiner.lock:
                self._leave_turn()
                if self.is_settled:
                    return self.outcome
                leads = not self.is_taken and joiner.begin_to_lead()
                if not leads:
                    ready = threading.Lock()
                    ready.acquire()
                    self._add_wake(ready.release)
                    self.can_lead = True
            if leads:
                joiner.lead(self)
            else:
                ready.acquire()

    def pop_wake(self) -> Callable[[], object] | None:
        """Return the callback, once; the caller holds the joiner's lock."""
        wake, self.wake, self.can_lead = self.wake, None, False
        return wake

    def _leave_turn(self) -> bool:
        """Count this item as awaited; return whether its thread has no others that are not."""
        turn, self.turn = self.turn, None
        if turn is None:
            return True
        turn.open -= 1
        turn.is_over = True
        return not turn.open

    def _add_wake(self, wake: Callable[[], object]) -> None:
        first = self.wake
        self.wake = wake if first is None else lambda: (first(), wake())


class Joiner(Generic[Item, Outcome]):
    """Collect items, and have threads work for them in turns.

    `work` returns an outcome for each of its items. If it raises, the exception is the outcome of all items that wait,
    too: a failure takes time, and no item should wait for two.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Outcome]],
        *,
        places: int = 1,
        gap: float = 0.0,
        patience: float = 0.0,
        max_items: int = sys.maxsize,
        max_size: int = sys.maxsize,
        size_of: Callable[[Item], int] = lambda _item: 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe when work starts.

        It starts at once if there is none in progress. Otherwise it starts if fewer than `places` threads work and
        `gap` seconds have passed since the last start. With `patience` one thread waits for that moment, and starts
        after so many seconds in any case; without it, a thread that has worked goes on with the items that wait.
        """
        self.lock = threading.Lock()
        self._work = work
        self._places = places
        self._gap = gap
        self._patience = patience
        self._max_items = max_items
        self._max_size = max_size
        self._size_of = size_of
        self._monotonic = monotonic
        self._waiting: deque[Pending[Item, Outcome]] = deque()
        self._working = 0
        self._last_start = -math.inf
        self._paced_until = 0.0
        self._is_collecting = False
        self._changed = threading.Condition(self.lock)
        self._turns = threading.local()

    def submit(self, item: Item) -> Pending[Item, Outcome]:
        """Add an item, which the caller awaits with `on_ready` or `wait`.

        An item that is lost instead, by a defect, may delay those of its turn until the next turn of any thread.
        """
        turn: _Turn | None = getattr(self._turns, "turn", None)
        if turn is None or turn.is_over:
            turn = self._turns.turn = _Turn()
        pending = Pending(self, item, turn)
        with self.lock:
            turn.open += 1
            self._waiting.append(pending)
        return pending

    def pace_for(self, seconds: float) -> None:
        """For so long, leave `gap` between two starts even if no work is in progress."""
        with self.lock:
            self._paced_until = self._monotonic() + seconds

    def begin_to_lead(self) -> bool:
        """Return whether the caller, which holds the lock, has to lead."""
        if self._is_collecting or not self._waiting or not (self._working < self._places or self._patience):
            return False
        self._is_collecting = True
        return True

    def lead(self, own: Pending[Item, Outcome] | None = None) -> None:
        """Work until nothing waits; a thread that waits for its own item leaves the others to another thread."""
        goes_on = True
        while goes_on:
            if batch := self._collect():
                self._work_for(batch)
            goes_on = self._goes_on(own)

    def _goes_on(self, own: Pending[Item, Outcome] | None) -> bool:
        with self.lock:
            if own is None or not own.is_taken:
                return self.begin_to_lead()
            if self._is_collecting or not any(each.wake for each in self._waiting):
                return False
            successor = next((each for each in self._waiting if each.can_lead), None)
            if successor is None:
                return self.begin_to_lead()
            wake = successor.pop_wake()
        if wake is not None:
            wake()
        return False

    def _collect(self) -> list[Pending[Item, Outcome]]:
        """Wait until work can start, and take the items for it."""
        with self.lock:
            try:
                if self._working or self._paced_until:
                    self._wait_for_start()
            finally:
                self._is_collecting = False
            batch = self._take()
            if batch:
                self._working += 1
                if self._patience:
                    self._last_start = self._monotonic()
        return batch

    def _wait_for_start(self) -> None:
        now = self._monotonic()
        give_up = now + self._patience
        if now >= self._paced_until:
            self._paced_until = 0.0
        while self._waiting and (self._working or self._paced_until):
            due = min(give_up, self._last_start + self._gap) if self._working < self._places else give_up
            pause = due - self._monotonic()
            if pause <= 0:
                return
            self._changed.wait(pause)

    def _take(self) -> list[Pending[Item, Outcome]]:
        batch: list[Pending[Item, Outcome]] = []
        size = 0
        while self._waiting and len(batch) < self._max_items:
            size += self._size_of(self._waiting[0].item)
            if batch and size > self._max_size:
                break
            pending = self._waiting.popleft()
            pending.is_taken = True
            batch.append(pending)
        return batch

    def _work_for(self, batch: list[Pending[Item, Outcome]]) -> None:
        try:
            outcomes = list(zip(batch, self._work([each.item for each in batch]), strict=True))
        except Exception as error:  # noqa: BLE001 - it is the outcome
            self._settle([(each, error) for each in batch], error)
        except BaseException:
            interrupted = Interrupted("the thread that worked was stopped")
            self._settle([(each, interrupted) for each in batch], interrupted)
            raise
        else:
            self._settle(outcomes)

    def _settle(self, outcomes: Sequence[tuple[Pending[Item, Outcome], Any]], failure: Exception | None = None) -> None:
        with self.lock:
            self._working -= 1
            if failure is not None:
                outcomes = [*outcomes, *((each, failure) for each in self._waiting)]
                self._waiting.clear()
            wakes = []
            for pending, outcome in outcomes:
                pending.outcome = outcome
                pending.is_taken = pending.is_settled = True
                if (wake := pending.pop_wake()) is not None:
                    wakes.append(wake)
            if self._is_collecting:
                self._changed.notify()
        for wake in wakes:
            try:
                wake()
            except Exception as error:  # noqa: BLE001 - the others are called, too
                _log.error("defect of this service", exc_info=error, extra={"event": "UnhandledError"})
