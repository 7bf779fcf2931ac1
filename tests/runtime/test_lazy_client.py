from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from tests.support.fresh_processes import result_of
from tests.support.processes import PATIENCE, wait_until
from traffic_analytics.runtime.lazy_client import AGAIN_AFTER, LazyClient, NotReady

SOON = 0.2
"""Time that these tests wait for a client that does not open, in seconds."""


class Door:
    """Open once `may_open` is set, unless there is trouble; each opening returns another number."""

    def __init__(self) -> None:
        self.tries = 0
        self.trouble: Exception | None = None
        self.may_open = threading.Event()
        self.may_open.set()
        self.now = 1000.0
        self.opening = LazyClient(self._open, lambda: self.now)

    def _open(self) -> int:
        self.tries += 1
        tries = self.tries
        assert self.may_open.wait(PATIENCE)
        if self.trouble is not None:
            raise self.trouble
        return tries

    def reason(self) -> BaseException | None:
        with pytest.raises(NotReady) as caught:
            self.opening.get(SOON)
        return caught.value.reason


def test_it_is_opened_once_and_at_the_first_request() -> None:
    door = Door()
    assert door.tries == 0

    assert [door.opening.get(PATIENCE) for _ in range(3)] == [1, 1, 1]


def test_a_caller_waits_no_longer_than_its_timeout() -> None:
    door = Door()
    door.may_open.clear()

    started = time.monotonic()
    assert [door.reason() for _ in range(3)] == [None] * 3
    assert time.monotonic() - started < 6 * SOON
    door.may_open.set()

    assert door.opening.get(PATIENCE) == 1, "the first call has opened it"


def test_a_failure_is_retried_but_not_at_once() -> None:
    door = Door()
    door.trouble = OSError("quotes anything")
    assert [door.reason() for _ in range(3)] == [door.trouble] * 3
    assert door.tries == 1
    with pytest.raises(NotReady, match=r"^OSError$"):
        door.opening.get(SOON)

    door.now += AGAIN_AFTER
    assert door.reason() is door.trouble
    assert door.tries == 2

    door.now += AGAIN_AFTER
    door.trouble = None
    assert door.opening.get(PATIENCE) == 3


def test_threads_that_request_it_together_get_the_same() -> None:
    door, seen = Door(), []
    door.may_open.clear()
    threads = [threading.Thread(target=lambda: seen.append(door.opening.get(PATIENCE))) for _ in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: door.tries)
    door.may_open.set()
    for thread in threads:
        thread.join(PATIENCE)

    assert seen == [1] * 16


def test_a_client_is_replaced_once_however_many_threads_discard_it() -> None:
    door = Door()
    assert not door.opening.discard(1), "none is open yet"
    assert door.opening.get(PATIENCE) == 1

    assert [door.opening.discard(1) for _ in range(3)] == [True, False, False]
    assert door.opening.get(PATIENCE) == 2
    assert not door.opening.discard(1), "the next client stays open"
    assert door.opening.get(PATIENCE) == 2


def open_before_and_after_a_fork(answers: Any) -> None:
    opening = LazyClient(os.getpid)
    before = opening.get(PATIENCE)
    if child := os.fork():
        answers.put((before == os.getpid(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        return
    os._exit(0 if opening.get(PATIENCE) == os.getpid() else 1)


def test_a_process_made_by_fork_opens_its_own() -> None:
    assert result_of(open_before_and_after_a_fork) == (True, 0)
