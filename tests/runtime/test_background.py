"""Chores run in the background until the stop; only a damaged file ends one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from traffic_analytics.errors import DamagedFile, SaltUnavailable
from traffic_analytics.runtime import background
from traffic_analytics.runtime.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0


def run_until_called(chore: Callable[[], float], calls: int, **more: Callable[[], None]) -> None:
    """Run a chore until it was called so many times."""
    done = threading.Event()
    count = 0

    def counted() -> float:
        nonlocal count
        count += 1
        if count >= calls:
            done.set()
        return chore()

    runner = Background()
    runner.add("sweep", counted, **more)
    runner.start()
    assert done.wait(PATIENCE)
    runner.stop(PATIENCE)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("quotes a visitor"), "the chore sweep failed: a defect"),
        (SaltUnavailable("no connection"), "the chore sweep failed: no connection"),
    ],
)
def test_no_error_ends_a_chore_and_each_is_logged_with_its_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, message: str
) -> None:
    monkeypatch.setattr(background, "AFTER_FAILURE", 0.01)
    background._log.addHandler(caplog.handler)

    def chore() -> float:
        raise error

    run_until_called(chore, calls=3)

    background._log.removeHandler(caplog.handler)
    records = [vars(record) for record in caplog.records]
    assert len(records) >= 2
    assert {(record["event"], record["chore"], record["msg"] % record["args"]) for record in records} == {
        ("ChoreFailed", "sweep", message)
    }


def test_a_chore_is_finished_once_after_its_last_call() -> None:
    finished: list[threading.Thread] = []

    run_until_called(lambda: 0.01, calls=2, finish=lambda: finished.append(threading.current_thread()))

    assert [thread.name for thread in finished] == ["sweep"]


def test_services_start_before_the_chores_and_stop_after_them() -> None:
    order: list[str] = []

    class Exporter:
        def start(self) -> None:
            order.append("start")

        def stop(self, timeout: float) -> None:
            order.append("stop")

    runner = Background()
    runner.add_service(Exporter())
    called = threading.Event()

    def chore() -> float:
        called.set()
        return 0.01

    runner.add("sweep", chore, finish=lambda: order.append("finish"), on_stop=lambda: order.append("on_stop"))
    runner.start()
    assert called.wait(PATIENCE)
    runner.stop(PATIENCE)

    assert order == ["start", "on_stop", "finish", "stop"]


def test_a_damaged_file_ends_its_chore_and_stops_the_process(caplog: pytest.LogCaptureFixture) -> None:
    background._log.addHandler(caplog.handler)
    calls, stopped = [], threading.Event()

    def chore() -> float:
        calls.append(1)
        raise DamagedFile("data/spool.sqlite3 is damaged")

    runner = Background()
    runner.add("check", chore)
    assert runner.damage is None
    runner.start(on_damage=stopped.set)
    assert stopped.wait(PATIENCE)
    runner.stop(PATIENCE)
    background._log.removeHandler(caplog.handler)

    assert (len(calls), str(runner.damage)) == (1, "data/spool.sqlite3 is damaged")
    assert set(caplog.messages) == {"Traffic Analytics stops: data/spool.sqlite3 is damaged"}
