from __future__ import annotations

import threading
import time

from traffic_analytics.runtime.single_flight import SingleFlight


def test_a_failure_reaches_every_thread_that_waits() -> None:
    flights: SingleFlight[int] = SingleFlight()
    started, go = threading.Event(), threading.Event()
    failed: list[str] = []

    def fail() -> int:
        started.set()
        go.wait(5)
        raise ArithmeticError

    def share() -> None:
        try:
            flights.share("k", fail, 5)
        except ArithmeticError:
            failed.append("yes")

    threads = [threading.Thread(target=share) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait(5)
    time.sleep(0.05)
    go.set()
    for thread in threads:
        thread.join(5)

    assert failed == ["yes"] * 3
    assert flights.share("k", lambda: 1, 5) == (1, True)
