from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.clocks import Clock
from tests.support.processes import PATIENCE
from traffic_analytics.delivery.circuit import CHECK_EVERY, FAILURES_TO_OPEN, STALLED_AFTER, Circuit, StallDetector
from traffic_analytics.delivery.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = "analytics_events"


class BlockedSpool(Spool):
    """A spool whose file another process holds: reading it waits until `released` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, sync="normal", max_mb=8, clock=lambda: 0.0)
        self.reads = 0
        self.read = threading.Event()
        self.released = threading.Event()

    def delivered_since(self, data_source: str, moment: float) -> bool:
        self.reads += 1
        self.read.set()
        assert self.released.wait(PATIENCE)
        return super().delivered_since(data_source, moment)


@pytest.fixture
def spool(tmp_path: Path) -> BlockedSpool:
    spool = BlockedSpool(tmp_path / "spool.sqlite3")
    spool.prepare()
    spool.released.set()
    return spool


@pytest.fixture
def now() -> Clock[float]:
    return Clock(1000.0)


def open_circuit(circuit: Circuit) -> None:
    for _ in range(FAILURES_TO_OPEN):
        assert circuit.is_closed()
        circuit.record_failure("status 503")


def deliver(spool: Spool, moment: float) -> None:
    spool.append(EVENTS, b"1")
    claim = spool.claim(10, 1000, moment)
    assert claim is not None
    spool.acknowledge(claim.events, moment)
    spool.release(claim)


def test_the_circuit_closes_when_the_forwarder_got_through(spool: BlockedSpool, now: Clock[float]) -> None:
    changes: list[tuple[str, bool]] = []
    circuit = Circuit(spool, EVENTS, "Tinybird", now, lambda *change: changes.append(change))
    open_circuit(circuit)

    now.now += CHECK_EVERY
    assert not circuit.is_closed()
    deliver(spool, now.now)
    assert not circuit.is_closed(), "it checks once a second, not with each hit"
    now.now += CHECK_EVERY
    assert circuit.is_closed()
    assert circuit.is_closed()
    assert changes == [(EVENTS, True), (EVENTS, False)], "each change is reported once"


def test_the_failures_are_counted_anew_after_the_circuit_has_closed(spool: BlockedSpool, now: Clock[float]) -> None:
    circuit = Circuit(spool, EVENTS, "Tinybird", now)
    for _ in range(2):
        open_circuit(circuit)
        now.now += CHECK_EVERY
        deliver(spool, now.now)
        assert circuit.is_closed()


def test_no_hit_waits_while_a_thread_reads_the_spool_for_the_circuit(spool: BlockedSpool, now: Clock[float]) -> None:
    circuit = Circuit(spool, EVENTS, "Tinybird", now)
    open_circuit(circuit)
    now.now += CHECK_EVERY
    deliver(spool, now.now)
    spool.released.clear()
    results: list[bool] = []
    reader = threading.Thread(target=lambda: results.append(circuit.is_closed()), daemon=True)
    reader.start()
    assert spool.read.wait(PATIENCE)

    now.now += CHECK_EVERY

    def fail() -> None:
        results.append(circuit.is_closed())
        circuit.record_failure("status 503")

    hit = threading.Thread(target=fail, daemon=True)
    hit.start()
    hit.join(1.0)
    waited = hit.is_alive()
    spool.released.set()
    hit.join(PATIENCE)
    reader.join(PATIENCE)

    assert not waited
    assert (results, spool.reads) == ([False, True], 1)
    assert circuit.is_closed(), "the thread that read it has closed the circuit"


def test_a_hit_that_waits_too_long_stalls_the_target_for_a_moment(now: Clock[float]) -> None:
    stalls = StallDetector(now)
    assert not stalls.is_stalled()

    with stalls:
        assert not stalls.is_stalled()
        now.now += STALLED_AFTER
        assert stalls.is_stalled()
    assert stalls.is_stalled(), "the next hit might wait as long"
    now.now += STALLED_AFTER
    assert not stalls.is_stalled()

    with stalls:
        now.now += STALLED_AFTER / 2
    assert not stalls.is_stalled()
