"""Commit the items of several threads together, because a commit costs more than an item."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class CommitFailed(Exception):
    """The thread that was to commit an item failed; whether the item was committed is unknown."""


class _Ticket(Generic[Item, Outcome]):
    """One item, and the outcome of its commit."""

    __slots__ = ("item", "outcome", "settled")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.settled = False
        self.outcome: Outcome | None = None


class GroupCommit(Generic[Item, Outcome]):
    """Have one thread at a time commit its own item and those of all threads that wait.

    `commit` gets the items and returns one outcome for all of them; it should not raise. If `is_failure` is true of the
    outcome, items added during the commit get it too: a failure takes time, and no thread should wait for two.
    """

    def __init__(self, commit: Callable[[list[Item]], Outcome], is_failure: Callable[[Outcome], bool]) -> None:
        self._commit = commit
        self._is_failure = is_failure
        self._waiting: deque[_Ticket[Item, Outcome]] = deque()
        self._turn = threading.Condition(threading.Lock())
        self._committing = False

    def add(self, item: Item) -> Outcome:
        """Commit an item, and return the outcome. Raises CommitFailed."""
        ticket: _Ticket[Item, Outcome] = _Ticket(item)
        with self._turn:
            self._waiting.append(ticket)
            # A thread whose item is settled need not wait for the next commit.
            while self._committing and not ticket.settled:
                self._turn.wait()
            is_next = not ticket.settled
            self._committing = self._committing or is_next
        if is_next:
            try:
                self._commit_waiting()
            finally:
                with self._turn:
                    self._committing = False
                    self._turn.notify_all()
        if not ticket.settled:
            raise CommitFailed("the commit was interrupted")
        return ticket.outcome  # type: ignore[return-value] # settled, so there is one

    def _commit_waiting(self) -> None:
        batch = self._pop_waiting()
        if not batch:  # another thread removed this item, and failed
            return
        outcome = self._commit([ticket.item for ticket in batch])
        if self._is_failure(outcome):
            batch += self._pop_waiting()
        for ticket in batch:
            ticket.outcome = outcome
            ticket.settled = True

    def _pop_waiting(self) -> list[_Ticket[Item, Outcome]]:
        batch = []
        with contextlib.suppress(IndexError):
            while True:
                batch.append(self._waiting.popleft())
        return batch
