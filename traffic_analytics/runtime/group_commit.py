"""What costs is the commit, not the item: threads that come while one commits are committed together after it."""

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
    """The thread that was to commit an item came to grief; what became of the item is not known."""


class _Ticket(Generic[Item, Outcome]):
    """One item on its way, and what came of it."""

    __slots__ = ("item", "outcome", "settled")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.settled = False
        self.outcome: Outcome | None = None


class GroupCommit(Generic[Item, Outcome]):
    """Lets one thread at a time commit its own item and those of all that wait for it.

    `commit` gets the items and returns one outcome for all of them; it should not raise. If `is_failure` says that an
    outcome is one, it goes to those too who came meanwhile: a failure takes time, and nobody should wait for two.
    """

    def __init__(self, commit: Callable[[list[Item]], Outcome], is_failure: Callable[[Outcome], bool]) -> None:
        self._commit = commit
        self._is_failure = is_failure
        self._waiting: deque[_Ticket[Item, Outcome]] = deque()
        self._turn = threading.Condition(threading.Lock())
        self._committing = False

    def add(self, item: Item) -> Outcome:
        """Have an item committed, and return what came of it. Raises CommitFailed."""
        ticket: _Ticket[Item, Outcome] = _Ticket(item)
        with self._turn:
            self._waiting.append(ticket)
            # Whose ticket is settled should not wait for whoever is next.
            while self._committing and not ticket.settled:
                self._turn.wait()
            mine = not ticket.settled
            self._committing = self._committing or mine
        if mine:
            try:
                self._commit_waiting()
            finally:
                with self._turn:
                    self._committing = False
                    self._turn.notify_all()
        if not ticket.settled:
            raise CommitFailed("a commit broke off")
        return ticket.outcome  # type: ignore[return-value] # settled, so there is one

    def _commit_waiting(self) -> None:
        batch = self._take_waiting()
        if not batch:  # whoever was to commit our own item came to grief with it
            return
        outcome = self._commit([ticket.item for ticket in batch])
        if self._is_failure(outcome):
            batch += self._take_waiting()
        for ticket in batch:
            ticket.outcome = outcome
            ticket.settled = True

    def _take_waiting(self) -> list[_Ticket[Item, Outcome]]:
        batch = []
        with contextlib.suppress(IndexError):
            while True:
                batch.append(self._waiting.popleft())
        return batch
