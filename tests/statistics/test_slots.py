from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.app import NOW
from tests.support.gateway import ACTIVE, Clock, Target, app_for, ghost_token
from tests.support.processes import wait_until
from tests.support.tokens import ADMIN
from traffic_analytics.runtime.single_flight import SingleFlight
from traffic_analytics.statistics.access import SharedAccess
from traffic_analytics.statistics.answer_cache import AnswerCache
from traffic_analytics.statistics.gateway import Gateway
from traffic_analytics.statistics.slots import REST, Slots
from traffic_analytics.tinybird.pipes import Reply

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("threads", "unverified"), [("4", 1), ("16", 2), ("64", 8)])
def test_invented_tokens_leave_most_slots_to_verified_ones(
    target: Target, tmp_path: Path, threads: str, unverified: int
) -> None:
    app = app_for(target.url, tmp_path, TINYBIRD_ADMIN_TOKEN=ADMIN, THREADS=threads)
    responses: list[Any] = []

    def query(path: str, token: str) -> None:
        responses.append(app.test_client().get(path, headers={"Authorization": f"Bearer {token}"}))

    own = ghost_token(exp=time.time() + 60)  # noqa: TID251
    slots = int(threads) * 3 // 4
    invented = [threading.Thread(target=query, args=[ACTIVE, f"p.invented-{n}"]) for n in range(slots)]
    verified = [threading.Thread(target=query, args=[f"{ACTIVE}?n={n}", own]) for n in range(slots - unverified)]
    for thread in invented:
        thread.start()
    wait_until(lambda: len(responses) == slots - unverified)
    refused = [response.status_code for response in responses]
    for thread in verified:
        thread.start()
    wait_until(lambda: len(target.paths) == slots)
    target.go.set()
    for thread in (*invented, *verified):
        thread.join(10)

    assert set(refused) == {503}
    assert [response.status_code for response in responses[len(refused) :]] == [200] * slots


class Refusing:
    """Refuse every token but Ghost's, without delay."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def get(self, path: str, token: str) -> Reply:
        if token.startswith("p."):
            self.refused.append(token)
            return Reply(403, b"{}", "")
        return Reply(200, path.encode(), "")


def test_invented_tokens_reach_a_fast_target_a_few_times_a_second(clock: Clock) -> None:
    clock.now = NOW.timestamp()
    pipes = Refusing()
    gateway = Gateway(
        pipes,
        AnswerCache(None, clock),
        SingleFlight(),
        refusals=AnswerCache(None, clock),
        access_of=SharedAccess(ADMIN).check,
        slots=Slots(12, unverified=2, monotonic=clock),
        fresh_for=60,
        realm="",
        clock=clock,
        sleep=lambda _: None,
    )
    statuses = []

    for second in range(3):
        for n in range(50):
            statuses.append(gateway.answer("api_kpis.json", "", f"Bearer p.invented-{second}-{n}").status)
            query = f"second={second}&n={n}"
            assert gateway.answer("api_kpis.json", query, f"Bearer {ghost_token()}").status == 200
        clock.now += REST

    assert len(pipes.refused) == 3 * 2
    assert [statuses.count(status) for status in (403, 503)] == [6, 144]


def test_unverified_tokens_that_the_target_accepts_share_their_slots_without_rest(clock: Clock) -> None:
    slots = Slots(12, unverified=1, monotonic=clock)

    for _ in range(10):
        assert slots.acquire(is_verified=False)
        assert not slots.acquire(is_verified=False)
        slots.release(is_verified=False, has_failed=False)


def test_a_slot_rests_only_after_an_unverified_token_failed(clock: Clock) -> None:
    slots = Slots(2, unverified=1, monotonic=clock)

    assert slots.acquire(is_verified=False)
    slots.release(is_verified=False, has_failed=True)
    clock.now += REST * 0.9
    assert not slots.acquire(is_verified=False)
    for _ in range(3):
        assert slots.acquire(is_verified=True)
        assert slots.acquire(is_verified=True)
        assert not slots.acquire(is_verified=True)
        slots.release(is_verified=True, has_failed=True)
        slots.release(is_verified=True, has_failed=True)
    clock.now += REST * 0.1 + 0.001
    assert slots.acquire(is_verified=False)
    assert not slots.acquire(is_verified=False)


def test_all_queries_together_never_exceed_the_slots(clock: Clock) -> None:
    slots = Slots(2, unverified=1, monotonic=clock)

    assert slots.acquire(is_verified=True)
    assert slots.acquire(is_verified=True)
    assert not slots.acquire(is_verified=False)
