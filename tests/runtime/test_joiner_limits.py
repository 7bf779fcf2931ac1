"""Places, gap and patience bound how a joiner works; batches are bounded too."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import Any

import pytest

from tests.support.joiner import Work, start
from tests.support.processes import PATIENCE, wait_until
from traffic_analytics.runtime.joiner import Joiner

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
