"""Test hits that are sent together: few requests, no long wait, and no event lost in any failure of a batch."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.app import page_hit
from tests.support.browsers import Browser, Load, Outcome, hit
from tests.support.fake_tinybird import Answer, FakeTinybird, Request, always, reset_in_mid_answer, taken
from tests.support.processes import wait_until
from tests.support.running import running
from tests.support.steady_load import steady_load
from traffic_analytics.delivery.circuit import FAILURES_TO_OPEN
from traffic_analytics.delivery.modes import POSTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fake_tinybird import Conversation
    from tests.support.service import Service

pytestmark = pytest.mark.e2e

LATENCY = 0.1
"""Latency of the upstream, in seconds."""
ALLOWANCE = 0.25
"""Further wait that a busy machine may cause, in seconds."""
ATTEMPTS = 3
"""Runs of the load until one is not delayed by other programs of the machine."""
STORED = {"successful_rows": 1, "quarantined_rows": 0}


def slow(then: Callable[[Request], Answer] = taken) -> Callable[[Request], Answer]:
    """Respond after the latency of a distant upstream."""

    def behave(request: Request) -> Answer:
        time.sleep(LATENCY)
        return then(request)

    return behave


def hit_until_joined(service: Service, is_joined: Callable[[], bool], **payload: str) -> list[Outcome]:
    """Post hits that arrive while others are in flight until they were sent together."""
    outcomes: list[Outcome] = []
    for _ in range(20):
        with Load(service.port, 12, hits_each=1) as load, contextlib.closing(Browser(service.port)) as browser:
            outcomes.append(browser.hit(**payload))
            outcomes += load.wait()
        if is_joined():
            return outcomes
    pytest.fail("no hits were sent together")


def sizes(fake: FakeTinybird) -> list[int]:
    return [len(request.event_ids) for request in list(fake.requests)]


def test_many_hits_need_few_requests_and_no_browser_waits_longer_than_two_of_them(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="direct") as (service, fake):
        fake.fail(slow())
        steady_load(service.port, 200, 1)  # the workers' first hits read files
        answered: list[Outcome] = []
        waits: list[float] = []
        while not waits or (waits[-1] > 2 * LATENCY + ALLOWANCE and len(waits) < ATTEMPTS):
            before = len(fake.requests)
            started = time.monotonic()
            answered += (latest := steady_load(service.port, 1000, 4))
            seconds = time.monotonic() - started
            rate = (len(fake.requests) - before) / seconds
            waits.append(max(each.seconds for each in latest))
            print(f"{len(latest) / seconds:.0f} hits/s, {rate:.0f} requests/s, the slowest browser {waits[-1]:.3f} s")
            assert rate < 60
            assert {each.status for each in latest} == {202}
        assert waits[-1] <= 2 * LATENCY + ALLOWANCE
        assert all(json.loads(each.body) == STORED for each in latest)
        fake.wait_for([each.event_id for each in answered], 30)
        delivered = fake.delivered
        assert Counter(delivered.values())[1] == len(delivered)
        assert all(each.event_id in delivered for each in answered)


def test_hits_with_different_tokens_do_not_wait_for_each_other(tmp_path: Path) -> None:
    blogs = 6
    at_upstream = threading.Barrier(blogs, timeout=3)  # shorter than the service's own timeout

    def behave(request: Request) -> Answer:
        at_upstream.wait()
        return taken(request)

    with running(tmp_path / "data", DELIVERY="direct", WEB_CONCURRENCY="1", TINYBIRD_TRACKER_TOKEN="") as (
        service,
        fake,
    ):
        (worker,) = service.workers()
        fake.fail(behave)
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10))
                for _ in range(blogs)
            ]
            os.kill(worker, signal.SIGSTOP)  # they are there together
            try:
                for number, sock in enumerate(clients):
                    sock.sendall(raw_hit(f"blog-{number}", f"&token=p.blog-{number}"))
            finally:
                os.kill(worker, signal.SIGCONT)
            answers = [sock.recv(65536).split()[1] for sock in clients]

        assert answers == [b"202"] * blogs
        assert len(fake.requests) == blogs


def test_a_lone_hit_is_sent_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="direct", WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(slow())
        outcomes = hit(service.port, 10)

        assert sizes(fake) == [1] * 10
        assert sorted(each.seconds for each in outcomes)[5] < LATENCY + ALLOWANCE


def test_a_kill_between_the_answers_of_tinybird_and_of_the_service_loses_and_repeats_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="direct", WEB_CONCURRENCY="1") as (service, fake):
        received: Counter[str] = Counter()
        killed = threading.Event()

        def kill_then_answer(conversation: Conversation, answer: bytes) -> None:
            if not killed.is_set():
                killed.set()
                (worker,) = service.workers()
                os.kill(worker, signal.SIGKILL)
            conversation.sock.sendall(answer)

        def behave(request: Request) -> Answer:
            time.sleep(LATENCY)
            received.update(request.event_ids)
            is_joined = len(request.event_ids) > 1 or killed.is_set()
            return Answer(body={}, send=kill_then_answer if is_joined else None)

        fake.fail(behave)
        outcomes = hit_until_joined(service, killed.is_set)
        wait_until(lambda: service.get("/ready")[0] == 200)
        fake.heal()

        assert any(not each.status for each in outcomes)
        assert all(received[each.event_id] == 1 for each in outcomes if each.accepted)
        assert set(received.values()) == {1}  # nothing of the batch was stored, so nothing is sent again
        assert service.waiting() == 0


def test_the_events_of_a_batch_whose_answer_breaks_off_are_sent_again(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="direct", WEB_CONCURRENCY="1") as (service, fake):
        broken: list[Request] = []

        def behave(request: Request) -> Answer:
            time.sleep(LATENCY)
            if broken or len(request.event_ids) == 1:
                return taken(request)
            broken.append(request)
            return reset_in_mid_answer(request)

        fake.fail(behave)
        outcomes = hit_until_joined(service, lambda: bool(broken))

        assert {each.status for each in outcomes} == {202}
        fake.wait_for([each.event_id for each in outcomes], 20)
        assert set(broken[0].event_ids) <= set(fake.delivered)
        assert set(fake.delivered.values()) == {1}


@pytest.mark.parametrize("token", ["p.a-token", ""], ids=["spool", "no spool"])
def test_one_poisoned_event_takes_none_of_its_batch_along(tmp_path: Path, token: str) -> None:
    def poisoned(request: Request) -> Answer:
        return Answer(400, body={}) if any(b"/poison/" in line for line in request.lines) else taken(request)

    with running(tmp_path / "data", DELIVERY="direct", WEB_CONCURRENCY="1", TINYBIRD_TRACKER_TOKEN=token) as (
        service,
        fake,
    ):
        fake.fail(slow(poisoned))
        outcomes = hit_until_joined(service, lambda: has_neighbours(fake), pathname="/poison/")

        poisonous = {each for request in fake.requests for each in guilty(request)}
        others = [each for each in outcomes if each.event_id not in poisonous]
        assert {each.status for each in others} == {202}
        assert {each.status for each in outcomes if each.event_id in poisonous} == {202 if token else 502}
        fake.wait_for([each.event_id for each in others], 20)
        assert set(fake.delivered.values()) == {1}
        assert not poisonous & set(fake.delivered)
        if token:
            wait_until(lambda: service.command("spool", "list").count("status 400") == len(poisonous))
            assert service.waiting() == 0


def guilty(request: Request) -> list[str]:
    return [name for name, line in zip(request.event_ids, request.lines, strict=True) if b"/poison/" in line]


def has_neighbours(fake: FakeTinybird) -> bool:
    return any(guilty(request) and len(request.event_ids) > 1 for request in list(fake.requests))


@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_a_client_that_goes_away_takes_no_event_along(tmp_path: Path, delivery: str) -> None:
    with running(tmp_path / "data", DELIVERY=delivery, WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(slow())
        ids = [f"gone-{number}" for number in range(20)]
        with Load(service.port, 8) as load:
            for name in ids:
                with socket.create_connection(("127.0.0.1", service.port)) as sock:
                    sock.sendall(raw_hit(name))
            load.wait_for_more(40)

        assert {each.status for each in load.outcomes} == {202}
        fake.wait_for([*ids, *load.accepted()], 20)
        assert set(fake.delivered.values()) == {1}


def raw_hit(event_id: str, query: str = "") -> bytes:
    body = json.dumps(page_hit(event_id=event_id))
    lines = [
        f"POST /api/v1/page_hit?name=analytics_events{query} HTTP/1.1",
        "Host: test",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Content-Type: application/json",
        f"x-site-uuid: {page_hit()['payload']['site_uuid']}",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def test_an_outage_under_joined_load_loses_nothing_and_opens_the_circuit_after_a_few_posts(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="direct", WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(slow())
        with Load(service.port, 24) as load:
            load.wait_for_more(100)
            before = len(fake.requests)
            fake.fail(slow(always(503)))
            wait_until(lambda: "CircuitOpened" in service.log)
            load.wait_for_more(100)
            failed = [each for each in list(fake.requests)[before:] if not each.taken]
        fake.heal()

        assert {each.status for each in load.outcomes} == {202}
        assert max(sizes(fake)) > 1
        # Those in flight when the circuit opens fail, too; the forwarder tries at least every 30 seconds.
        direct = [each for each in failed if each.arrived < failed[0].arrived + 10 * LATENCY]
        assert FAILURES_TO_OPEN <= len(direct) <= FAILURES_TO_OPEN + POSTS + 3
        fake.wait_for(load.accepted(), 30)
        wait_until(lambda: service.waiting() == 0)
        assert set(fake.delivered.values()) == {1}
