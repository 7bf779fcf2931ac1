from __future__ import annotations

import threading

import pytest

from tests.support.processes import PATIENCE, wait_until
from traffic_analytics.runtime.group_commit import CommitFailed, GroupCommit


class Slow:
    """Commit once `go_on` is set, with one outcome for each batch."""

    def __init__(self, *outcomes: str) -> None:
        self.batches: list[list[int]] = []
        self.outcomes = list(outcomes)
        self.go_on = threading.Event()
        self.group: GroupCommit[int, str] = GroupCommit(self._commit, is_failure=lambda outcome: outcome == "failed")
        self.outcome_of: dict[int, str] = {}

    def _commit(self, items: list[int]) -> str:
        self.batches.append(items)
        self.go_on.wait(PATIENCE)
        outcome = self.outcomes.pop(0)
        if outcome == "broken":
            raise RuntimeError
        return outcome

    def together(self, *items: int) -> dict[int, str]:
        """Add the first item, all others during its commit, and return the outcome of each."""
        threads = [threading.Thread(target=self._add, args=[item]) for item in items]
        threads[0].start()
        wait_until(lambda: self.batches)
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: len(self.group._waiting) == len(items) - 1)
        self.go_on.set()
        for thread in threads:
            thread.join(PATIENCE)
        return self.outcome_of

    def _add(self, item: int) -> None:
        try:
            self.outcome_of[item] = self.group.add(item)
        except (CommitFailed, RuntimeError) as error:
            self.outcome_of[item] = type(error).__name__


def test_items_added_during_a_commit_are_committed_together_and_in_order() -> None:
    slow = Slow("first", "second")

    outcome_of = slow.together(1, 2, 3, 4)

    assert outcome_of == {1: "first", 2: "second", 3: "second", 4: "second"}
    assert slow.batches[0] == [1]
    assert sorted(slow.batches[1]) == [2, 3, 4]


def test_a_failure_is_the_outcome_of_all_items_that_waited_for_it() -> None:
    slow = Slow("failed")

    assert slow.together(1, 2, 3) == {1: "failed", 2: "failed", 3: "failed"}
    assert slow.batches == [[1]]


def test_a_waiting_item_is_committed_though_the_commit_before_raised() -> None:
    slow = Slow("broken", "second")

    assert slow.together(1, 2) == {1: "RuntimeError", 2: "second"}


def test_every_thread_whose_commit_was_interrupted_gets_an_error() -> None:
    slow = Slow("first", "broken")

    outcome_of = slow.together(1, 2, 3, 4)

    assert sorted(outcome_of.values()) == ["CommitFailed", "CommitFailed", "RuntimeError", "first"]
    assert [len(batch) for batch in slow.batches] == [1, 3]


@pytest.mark.parametrize("outcome", ["good", "failed"])
def test_a_single_item_is_committed_at_once(outcome: str) -> None:
    slow = Slow(outcome)
    slow.go_on.set()

    assert slow.group.add(1) == outcome
