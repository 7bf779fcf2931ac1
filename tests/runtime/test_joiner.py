from __future__ import annotations

import pytest

from tests.support.joiner import WAYS, Stop, Work, start
from tests.support.processes import wait_until
from traffic_analytics.runtime.joiner import Interrupted, Joiner

either_way = pytest.mark.parametrize("way", WAYS)


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
