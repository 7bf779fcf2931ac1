"""Test when threads serve, as the loop asks for it."""

from __future__ import annotations

import threading
import time

from tests.support.processes import wait_until
from traffic_analytics.gunicorn_worker.serving_threads import BLOCKED_AFTER, ServingThreads


def test_a_request_behind_one_that_blocks_is_served_though_all_threads_were_busy_when_it_came() -> None:
    finish = {name: threading.Event() for name in ("first", "second", "third", "last")}
    started: list[str] = []

    def serve(name: str) -> None:
        started.append(name)
        finish[name].wait(10)

    def check_as_the_loop_does(count: int) -> None:
        """Check again only while the last call asked for it."""
        deadline = time.monotonic() + 5
        while threads.check() and len(started) < count and time.monotonic() < deadline:
            time.sleep(BLOCKED_AFTER)
        wait_until(lambda: len(started) >= count)

    threads = ServingThreads[str](serve)
    threads.start(2)
    try:
        threads.add(["first", "second"])
        check_as_the_loop_does(2)
        threads.add(["third", "last"])
        assert threads.check()  # no thread is idle, and the first that will be may block at once
        finish["first"].set()
        wait_until(lambda: "third" in started)
        finish["second"].set()
        check_as_the_loop_does(4)

        assert started == ["first", "second", "third", "last"]
    finally:
        for each in finish.values():
            each.set()
        threads.stop()
