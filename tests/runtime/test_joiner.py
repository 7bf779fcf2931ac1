from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import PATIENCE, wait_until
from traffic_analytics.runtime.joiner import Interrupted, Joiner, Pending

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
either_way = pytest.mark.parametrize("way", WAYS)


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


@either_way
def test_a_single_item_is_worked_for_at_once_in_the_thread_that_awaits_it(way: str) -> None:
    work = Work()
    work.allow()

    WAYS[way](work, 3)

    assert work.join() == {3: 9}


@either_way
def test_items_submitted_during_the_work_are_worked_for_together_and_in_order(way: str) -> None:
    work = Work()

    start(work, way, 1, 2, 3, 4)
    work.allow(2)

    assert work.join() == {1: 1, 2: 4, 3: 9, 4: 16}
    assert work.batches == [[1], [2, 3, 4]]


def test_all_items_of_a_thread_are_worked_for_together() -> None:
    work = Work()
    work.allow()

    work.call_back_for(1, 2, 3)

    assert work.join() == {1: 1, 2: 4, 3: 9}
    assert work.batches == [[1, 2, 3]]


def test_a_thread_has_passed_all_its_callbacks_before_it_works_for_others() -> None:
    work = Work()
    work.call_back_for(1, 2, 3)
    wait_until(lambda: work.batches)
    work.call_back_for(4)
    work.submitted(1, 2, 3, 4)

    work.allow()
    wait_until(lambda: len(work.batches) == 2)

    assert work.outcome_of == {1: 1, 2: 4, 3: 9}  # while its thread works for the fourth
    work.allow()
    work.join()


def test_a_thread_that_awaits_its_item_by_a_callback_is_free_while_another_one_works() -> None:
    work = Work()
    start(work, "on_ready", 1, 2, 3)

    wait_until(lambda: sum(thread.is_alive() for thread in work._threads) == 1)

    work.allow(2)
    work.join()


def test_a_thread_that_waits_is_not_kept_by_the_items_of_others() -> None:
    work = Work()
    start(work, "wait", 1, 2, 3)

    work.allow()
    wait_until(lambda: 1 in work.outcome_of)

    assert work.batches[1:] in ([], [[2, 3]])
    work.allow()
    assert work.join() == {1: 1, 2: 4, 3: 9}


def test_a_thread_that_waits_works_on_if_no_other_thread_can() -> None:
    work = Work()
    work.wait_for(1)
    wait_until(lambda: work.batches)
    work.call_back_for(2)
    work.submitted(1, 2)

    work.allow(2)

    assert work.join() == {1: 1, 2: 4}


@either_way
@pytest.mark.parametrize("failure", [OSError("full"), Stop()], ids=repr)
def test_a_failure_is_the_outcome_of_all_items_that_waited_for_it(way: str, failure: BaseException) -> None:
    work = Work()
    work.failures = [failure]

    start(work, way, 1, 2, 3)
    work.allow()

    outcomes = work.join()
    expected = (Interrupted, Stop) if isinstance(failure, Stop) else OSError
    assert sorted(outcomes) == [1, 2, 3]
    assert all(isinstance(each, expected) for each in outcomes.values())
    assert work.batches == [[1]]


@either_way
def test_later_items_are_worked_for_after_a_failure(way: str) -> None:
    work = Work()
    work.failures = [OSError("full")]
    work.allow(2)
    WAYS[way](work, 1)
    work.join()

    WAYS[way](work, 2)

    assert work.join()[2] == 4


def test_work_that_returns_too_few_outcomes_fails() -> None:
    joiner: Joiner[int, int] = Joiner(lambda _items: [])

    assert isinstance(joiner.submit(1).wait(), ValueError)


def test_a_callback_that_fails_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    joiner: Joiner[int, int] = Joiner(lambda items: items)
    first, second = joiner.submit(1), joiner.submit(2)
    called = []

    def fail() -> None:
        called.append(1)
        raise RuntimeError

    first.on_ready(fail)
    second.on_ready(lambda: called.append(2))

    assert called == [1, 2]
    assert "defect" in caplog.text


def test_an_item_that_is_settled_already_is_called_back_at_once() -> None:
    joiner: Joiner[int, int] = Joiner(lambda items: items)
    first, second = joiner.submit(1), joiner.submit(2)
    assert second.wait() == 2
    called: list[int] = []

    first.on_ready(lambda: called.append(1))

    assert called == [1]


def test_an_item_that_is_never_awaited_delays_no_later_turn() -> None:
    joiner: Joiner[int, int] = Joiner(lambda items: items)
    called: list[int] = []
    joiner.submit(1)
    joiner.submit(2).on_ready(lambda: called.append(2))
    assert called == []

    joiner.submit(3).on_ready(lambda: called.append(3))

    assert called == [2, 3]


def test_several_callbacks_of_one_item_are_called() -> None:
    work = Work()
    work.wait_for(1)
    wait_until(lambda: work.batches)
    pending = work.joiner.submit(2)
    called: list[str] = []
    pending.on_ready(lambda: called.append("first"))
    pending.on_ready(lambda: called.append("second"))

    work.allow(2)
    work.join()

    assert pending.wait() == 4
    assert called == ["first", "second"]


# -- places, gap and patience

FOREVER = 1000.0


def test_a_second_place_is_used_only_after_the_gap() -> None:
    work = Work(places=2, gap=0.2, patience=FOREVER)
    work.call_back_for(1)
    wait_until(lambda: work.batches)
    started = work.joiner._last_start
    work.call_back_for(2)

    wait_until(lambda: len(work.batches) == 2)

    assert work.joiner._last_start - started >= 0.2
    work.allow(2)
    assert work.join() == {1: 1, 2: 4}


def test_the_wait_for_the_gap_ends_early_when_no_work_is_in_progress() -> None:
    work = Work(places=2, gap=FOREVER, patience=2 * FOREVER)
    start(work, "on_ready", 1, 2, 3)

    work.allow(2)

    assert work.join() == {1: 1, 2: 4, 3: 9}
    assert work.batches == [[1], [2, 3]]


def test_a_paced_joiner_leaves_the_gap_even_if_no_work_is_in_progress() -> None:
    joiner: Joiner[int, int] = Joiner(lambda items: items, places=2, gap=0.2, patience=FOREVER)
    joiner.submit(1).wait()
    started = joiner._last_start
    joiner.pace_for(FOREVER)

    joiner.submit(2).wait()

    assert joiner._last_start - started >= 0.2


def test_the_pace_ends() -> None:
    joiner: Joiner[int, int] = Joiner(lambda items: items, places=2, gap=FOREVER, patience=2 * FOREVER)
    joiner.submit(1).wait()
    joiner.pace_for(0.0)

    assert joiner.submit(2).wait() == 2


def test_one_thread_at_most_waits_for_the_gap() -> None:
    work = Work(places=3, gap=FOREVER, patience=2 * FOREVER)
    start(work, "on_ready", 1, 2, 3, 4)

    wait_until(lambda: sum(thread.is_alive() for thread in work._threads) == 2)  # it and the one that works

    work.allow(2)
    work.join()


def test_without_a_place_items_wait_no_longer_than_the_patience() -> None:
    work = Work(places=1, gap=0.0, patience=0.2)
    work.call_back_for(1)
    wait_until(lambda: work.batches)
    work.call_back_for(2)

    wait_until(lambda: work.batches == [[1], [2]])  # though the first is still in progress

    work.allow(2)
    assert work.join() == {1: 1, 2: 4}


@pytest.mark.parametrize(
    ("bounds", "batches"),
    [
        (
            {"max_items": 2},
            [
                [
                    1,
                    20,
                ],
                [300, 40000],
                [5],
            ],
        ),
        ({"max_size": 4, "size_of": lambda item: len(str(item))}, [[1, 20], [300], [40000], [5]]),
    ],
)
def test_a_batch_is_bounded_in_items_and_size_but_holds_one(bounds: dict[str, Any], batches: list[list[int]]) -> None:
    work = Work(**bounds)
    work.allow(9)

    work.call_back_for(1, 20, 300, 40000, 5)

    work.join()
    assert work.batches == batches


@pytest.mark.parametrize("options", [{}, {"places": 3, "gap": 0.001, "patience": 1.0}], ids=str)
def test_each_of_many_items_is_settled_once_whichever_way_threads_await_them(options: dict[str, Any]) -> None:
    threads, each = 8, 300
    settled: Counter[int] = Counter()
    lock = threading.Lock()
    barrier = threading.Barrier(threads)

    def work(items: list[int]) -> list[int]:
        if items[0] % 97 == 0:
            raise OSError
        return items

    joiner: Joiner[int, int] = Joiner(work, max_items=5, **options)

    def settle(item: int) -> None:
        with lock:
            settled[item] += 1

    def submit(number: int) -> None:
        barrier.wait(PATIENCE)
        for turn in range(each):
            items = [(number * each + turn) * 4 + place for place in range(4)]
            pending = [joiner.submit(item) for item in items]
            for item, one in zip(items, pending, strict=True):
                if (number + turn) % 3:
                    one.on_ready(partial(settle, item))
                else:
                    one.wait()
                    settle(item)

    running = [threading.Thread(target=submit, args=[number], daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE)

    wait_until(lambda: len(settled) == threads * each * 4)
    assert set(settled.values()) == {1}
    assert not joiner._waiting
