"""Test that no accepted hit is lost when processes are killed at random moments under load."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.browsers import Load
from tests.support.fake_tinybird import Answer, FakeTinybird, Request, reset_in_mid_answer, taken
from tests.support.processes import wait_until
from tests.support.running import running
from tests.support.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.e2e

ROUNDS = 20


def flapping(request: Request) -> Answer:
    """Accept 60 requests, then fail 40 in two ways, repeatedly."""
    phase = request.number % 100
    if phase < 60:
        return taken(request)
    return Answer(503, body={}) if phase < 90 else reset_in_mid_answer(request)


def kill_worker(service: Service, dice: random.Random) -> None:
    wait_until(lambda: len(service.workers()) == 2)
    os.kill(dice.choice(service.workers()), signal.SIGKILL)


def kill_forwarder(service: Service, dice: random.Random) -> None:
    service.kill_forwarder()


def kill_tree(service: Service, dice: random.Random) -> None:
    service.kill_tree()
    service.start()


@pytest.mark.parametrize("kill", [kill_worker, kill_forwarder, kill_tree])
@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_no_accepted_hit_is_lost_when_processes_are_killed(
    tmp_path: Path, delivery: str, kill: Callable[[Service, random.Random], None]
) -> None:
    dice = random.Random(f"{delivery} {kill.__name__}")
    with running(tmp_path / "data", DELIVERY=delivery) as (service, fake):
        if delivery == "direct":
            fake.fail(flapping)
        with Load(service.port) as load:
            for _ in range(ROUNDS):
                load.wait_for_more(20)
                time.sleep(dice.uniform(0, 0.3))  # the moment of the kill is random
                kill(service, dice)
        fake.heal()
        accepted = load.accepted()
        fake.wait_for(accepted, 60)
        wait_until(lambda: service.waiting() == 0)
        repeated = repeated_requests(fake)
        print(f"{delivery}, {kill.__name__}: {len(accepted)} accepted, {len(repeated)} batches repeated")
        # One batch is in flight when its sender is killed; a single hit in flight gets no 2xx and is not stored.
        assert len(repeated) <= ROUNDS
        assert all(each.is_batch for each in repeated)
        if delivery == "spool":  # only the forwarder uses its connection
            last = {each.connection: each.number for each in fake.requests}
            assert all(last[each.connection] == each.number for each in repeated)


def repeated_requests(fake: FakeTinybird) -> list[Request]:
    """Return the accepted requests with events that were accepted again later."""
    delivered = fake.delivered
    last = {
        event_id: request.number
        for request in fake.requests
        if request.taken
        for event_id in request.event_ids
        if delivered[event_id] > 1
    }
    return [
        each
        for each in fake.requests
        if each.taken and any(last.get(event_id, each.number) != each.number for event_id in each.event_ids)
    ]
