"""Queries of tabs, threads and processes share the responses of the target."""

from __future__ import annotations

import multiprocessing
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.app import NOW, SITE
from tests.support.gateway import ACTIVE, STATIC, Target, app_for, ghost_token, query_together, rows
from tests.support.processes import wait_until
from tests.support.tokens import ADMIN
from traffic_analytics.runtime.single_flight import SingleFlight
from traffic_analytics.statistics.access import Access
from traffic_analytics.statistics.answer_cache import AnswerCache
from traffic_analytics.statistics.gateway import Gateway
from traffic_analytics.statistics.slots import Slots
from traffic_analytics.tinybird.pipes import Reply

if TYPE_CHECKING:
    from tests.support.gateway import Clock, OpenCache, StartGateway

TOKEN_LIFE = 3 * 3_600
"""Life of the tokens that Ghost signs, in seconds."""
POLLING = 3 * TOKEN_LIFE
"""Seconds in which tabs query again and again."""


def polls_of(seconds: float, tabs: int) -> list[tuple[float, int]]:
    """Return the times of each tab's queries: once a minute, at a second of its own, a little late as in browsers."""
    return sorted(
        (start + 60 * n + (n * 7 % 5) / 100, tab)
        for tab, start in enumerate(range(0, 60, 60 // tabs))
        for n in range(int(seconds / 60))
    )


@pytest.mark.parametrize(("cache_seconds", "tabs"), [(60, 4), (300, 2)])
def test_the_tabs_of_two_admins_cost_at_most_one_query_per_cache_time_whatever_worker_they_meet(
    gateway: StartGateway, cache_seconds: int, tabs: int
) -> None:
    workers = [
        gateway(TINYBIRD_ADMIN_TOKEN=ADMIN, STATS_CACHE_SECONDS=str(cache_seconds), LOG_LEVEL="silent")
        for _ in range(3)
    ]
    polls = polls_of(POLLING, tabs)
    most = POLLING // cache_seconds

    for n, (at, tab) in enumerate(polls):
        worker = workers[n % 3]
        worker.service.now = NOW + timedelta(seconds=at)
        admin, session = tab % 2, int(at // TOKEN_LIFE)
        expiry = int(NOW.timestamp()) + (session + 1) * TOKEN_LIFE + 60
        response = worker.query(
            f"{ACTIVE}?site_uuid={SITE}&ghost_client=admin", ghost_token(name=str(admin), exp=expiry)
        )
        assert response.status_code == 200

    assert len(polls) == tabs * POLLING // 60
    assert most / 2 <= len(workers[0].requests) <= most


def test_one_tab_polling_at_the_cache_time_itself_costs_no_more_than_its_polls_without_the_admin_token(
    gateway: StartGateway,
) -> None:
    workers = [gateway(LOG_LEVEL="silent") for _ in range(2)]

    for n, (at, _) in enumerate(polls_of(POLLING, tabs=1)):
        worker = workers[n % 2]
        worker.service.now = NOW + timedelta(seconds=at)
        worker.query(ACTIVE, token=f"session-{int(at // TOKEN_LIFE)}")

    assert len(workers[0].requests) <= POLLING // 60


def test_identical_queries_at_the_same_time_reach_the_target_once(target: Target, tmp_path: Path) -> None:
    app = app_for(target.url, tmp_path, TINYBIRD_ADMIN_TOKEN=ADMIN, THREADS="16")
    token = ghost_token(exp=time.time() + 60)  # noqa: TID251

    responses = query_together(app, target, [(f"{ACTIVE}?ghost_client={n}", token) for n in range(12)])

    assert [response.json for response in responses] == [rows(7)] * 12
    assert len(target.paths) == 1


def test_identical_queries_reach_the_target_once_even_without_a_cache(target: Target, tmp_path: Path) -> None:
    app = app_for(target.url, tmp_path, STATS_CACHE_SECONDS="0")

    responses = query_together(app, target, [(ACTIVE, STATIC)] * 6)

    assert [response.json for response in responses] == [rows(7)] * 6
    assert len(target.paths) == 1


def ask_in_a_process(url: str, data_dir: Path, barrier: Any, results: Any) -> None:
    app = app_for(url, data_dir)
    barrier.wait(30)
    response = app.test_client().get(ACTIVE, headers={"Authorization": f"Bearer {STATIC}"})
    results.put((response.status_code, response.json))


def test_identical_queries_of_several_processes_reach_the_target_once(target: Target, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(3), spawn.Queue()
    processes = [
        spawn.Process(target=ask_in_a_process, args=[target.url, tmp_path, barrier, results]) for _ in range(2)
    ]
    for process in processes:
        process.start()
    barrier.wait(30)
    wait_until(lambda: len(target.paths) >= 1)
    time.sleep(0.3)
    target.go.set()
    responses = [results.get(timeout=20) for _ in processes]
    for process in processes:
        process.join(10)

    assert responses == [(200, rows(7))] * 2
    assert len(target.paths) == 1


def test_a_worker_reuses_a_response_that_another_stored_while_it_claimed(cache: OpenCache, clock: Clock) -> None:
    tokens: list[str] = []

    class Once:
        def get(self, path: str, token: str) -> Reply:
            tokens.append(token)
            return Reply(200, token.encode(), "")

    def worker(cache: AnswerCache) -> Gateway:
        return Gateway(
            Once(),
            cache,
            SingleFlight(),
            refusals=AnswerCache(None, clock),
            access_of=lambda *_: Access("all", "all"),
            slots=Slots(1, unverified=1, monotonic=clock),
            fresh_for=60,
            realm="",
            clock=clock,
            sleep=lambda _: None,
        )

    fast, slow = worker(cache()), cache()
    claim = slow.claim
    slow.claim = lambda *args: bool(fast.answer("p.json", "", "Bearer fast")) and claim(*args)  # type: ignore[method-assign]

    assert worker(slow).answer("p.json", "", "Bearer slow").body == b"fast"
    assert tokens == ["fast"]


def test_a_slow_target_leaves_threads_for_hits(target: Target, tmp_path: Path) -> None:
    app = app_for(target.url, tmp_path, THREADS="4")
    responses: list[int] = []

    def query(n: int) -> None:
        headers = {"Authorization": f"Bearer {STATIC}"}
        responses.append(app.test_client().get(f"{ACTIVE}?n={n}", headers=headers).status_code)

    threads = [threading.Thread(target=query, args=[n]) for n in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(target.paths) == 3)
    query(3)  # the fourth does not wait

    assert responses == [503]
    target.go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(responses) == [200, 200, 200, 503]
    query(4)
    assert responses[-1] == 200
